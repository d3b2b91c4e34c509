"""What the image needs beside mrq itself, one requirement a line, by pyproject.toml of the current folder."""

import tomllib

with open("pyproject.toml", "rb") as file:
    about = tomllib.load(file)
extras = about["project"]["optional-dependencies"]
wanted = [
    *about["project"]["dependencies"],
    *extras["cluster"],
    *extras["zstd"],
    *about["build-system"]["requires"],
]
print(*wanted, sep="\n")

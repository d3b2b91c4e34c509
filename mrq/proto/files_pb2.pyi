from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Output(_message.Message):
    __slots__ = ("map_index", "ticket", "number", "token", "digest", "stage")
    MAP_INDEX_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    map_index: int
    ticket: int
    number: int
    token: str
    digest: int
    stage: int
    def __init__(self, map_index: _Optional[int] = ..., ticket: _Optional[int] = ..., number: _Optional[int] = ..., token: _Optional[str] = ..., digest: _Optional[int] = ..., stage: _Optional[int] = ...) -> None: ...

class SizesRequest(_message.Message):
    __slots__ = ("job", "partition", "outputs")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    job: str
    partition: int
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    def __init__(self, job: _Optional[str] = ..., partition: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ...) -> None: ...

class SizesReply(_message.Message):
    __slots__ = ("regions",)
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    def __init__(self, regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("found", "length", "records", "crc32", "cost", "block_cost", "sorted")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    BLOCK_COST_FIELD_NUMBER: _ClassVar[int]
    SORTED_FIELD_NUMBER: _ClassVar[int]
    found: bool
    length: int
    records: int
    crc32: int
    cost: int
    block_cost: int
    sorted: bool
    def __init__(self, found: _Optional[bool] = ..., length: _Optional[int] = ..., records: _Optional[int] = ..., crc32: _Optional[int] = ..., cost: _Optional[int] = ..., block_cost: _Optional[int] = ..., sorted: _Optional[bool] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("job", "partition", "outputs", "offset")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    job: str
    partition: int
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    offset: int
    def __init__(self, job: _Optional[str] = ..., partition: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ..., offset: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class DialRequest(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class DialReply(_message.Message):
    __slots__ = ("proof", "worker", "boot", "root", "sentinel", "protocol")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SENTINEL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    proof: bytes
    worker: str
    boot: str
    root: bytes
    sentinel: str
    protocol: int
    def __init__(self, proof: _Optional[bytes] = ..., worker: _Optional[str] = ..., boot: _Optional[str] = ..., root: _Optional[bytes] = ..., sentinel: _Optional[str] = ..., protocol: _Optional[int] = ...) -> None: ...

class SeesRequest(_message.Message):
    __slots__ = ("worker", "boot", "folder", "nonce")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    worker: str
    boot: str
    folder: bytes
    nonce: bytes
    def __init__(self, worker: _Optional[str] = ..., boot: _Optional[str] = ..., folder: _Optional[bytes] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class SeesReply(_message.Message):
    __slots__ = ("seen",)
    SEEN_FIELD_NUMBER: _ClassVar[int]
    seen: bool
    def __init__(self, seen: _Optional[bool] = ...) -> None: ...

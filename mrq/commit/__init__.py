"""How an output becomes visible: all of it at once, or nothing.

manifest     what a finished output says of itself, in `_SUCCESS`
staging      the folder beside OUT where it is made
owner        who owns that folder
claim        a job takes it, takes it over from a dead one, lets go of it
publish      the commit: its steps as a story
earlier      what stands at OUT already, and how it goes
filesystem   every system call of these
"""

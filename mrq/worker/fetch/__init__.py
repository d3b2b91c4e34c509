"""The network side of the shuffle: a worker's data plane, a process of its own that serves the worker's map
outputs and fetches others' for its reduces.

    data_plane     the agent's side: starts the process, hands reduces to it, hears what came of them
    messages       what both sides say to each other
    process        the process itself: reads what the agent says, runs fetches
    locations      follows a job's locations in the store; where workers listen
    reduce_fetch   the fetch of one reduce
    verifier       bytes of a stream, checked region by region
    local_outputs  which outputs lie where this process can read them

The agent says little: fetch for this attempt, let go of that one, the job is over. Where map outputs lie is
the process's own to know: it reads the store itself, as a user that may read nothing else. The agent knows
only which attempts wait for it, and hands them back if it dies. docs/architecture.md has what comes of each
mishap.

User code runs elsewhere (executors), beats are made elsewhere (the agent): transfers delay neither.
"""

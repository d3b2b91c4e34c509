"""The data plane: a process of its own that serves this worker's map outputs and gathers others'.

    plane       the agent's side: starts it, speaks to it, gathers for the loop
    follow      the agent's side: follows a job's locations in the store
    process     the process itself: reads what the agent says, runs gathers
    gathering   one reduce's gathering
    landing     bytes of a stream, checked region by region
    places      which outputs lie where this process can read them
    messages    what both sides say to each other

User code runs elsewhere (executors), beats are made elsewhere (the agent): transfers delay neither.
"""

"""
The bridge: lets Docker, and the command line, call the minion's module ``dsvolume``.

One long-lived process per node, in Salt's Python. Docker speaks the volume driver protocol to one
socket (``driver.py``), administration HTTP and JSON to another (``admin.py``); both call the same
functions that ``salt-call`` does (``module.py``), in threads, so that one stuck volume blocks no
other (``lanes.py``).
"""

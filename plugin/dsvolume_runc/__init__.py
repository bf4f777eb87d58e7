"""
``dsvolume-runc``: runc, for containers that use volumes.

A container engine calls it in the place of runc. Before a container is made it reads the bundle's
``config.json``, and of the mounts that are volumes of this node

* lets the container use the device of a raw volume (reading alone, where it is mounted ``ro``), for
  which the device cgroup would otherwise refuse every ``open``;
* on hosts with cgroup v1, gives the container the limits that the volume has here, so that they
  are in effect before its first I/O.

Then it becomes runc, with the very same arguments. It runs several times for each container and
stands between an engine and all its containers: the standard library alone, imported as late as can
be; neither Salt nor the store is asked. What it needs to know lies on this host (``volumes.py``,
``limits.py``).
"""

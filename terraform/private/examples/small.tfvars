# One host that is everything: to look at it, or for one machine with local volumes.
# The host keys are made up: put in what ssh-keyscan, checked on the host's console, says.
cluster = "small"

nodes = {
  one = {
    address  = "192.0.2.10"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHaSw601QLuAPAILOu5mzYiHEjI06gxucUPArdc/9DHt"
    roles    = ["master", "etcd", "ceph", "docker"]
  }
}

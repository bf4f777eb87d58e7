# Three hosts that share all work: the smallest cluster that outlives the loss of any host but the master.
# The host keys are made up: put in what ssh-keyscan, checked on the host's console, says.
cluster = "medium"

nodes = {
  one = {
    address  = "192.0.2.10"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHaSw601QLuAPAILOu5mzYiHEjI06gxucUPArdc/9DHt"
    roles    = ["master", "etcd", "ceph", "docker"]
  }
  two = {
    address  = "192.0.2.11"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID/EzP50WHDiwNmfcfMP8GVsje3UHMHX09N2sNvmheLz"
    roles    = ["etcd", "ceph", "docker"]
  }
  three = {
    address  = "192.0.2.12"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIItbnbDBPbJCVsgpqjZKqQxtLroxi5IypKuTE7lU01Vf"
    roles    = ["etcd", "ceph", "docker"]
  }
}

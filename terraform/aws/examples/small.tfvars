# One instance that is everything, with a data disk: to look at it. About 50 USD a month: 35 for the instance, 10 for the
# disks, 4 for its address (eu-central-1, on demand; prices change).
cluster       = "small"
region        = "eu-central-1"
ssh           = { key_file = "~/.ssh/id_ed25519" }
allowed_cidrs = ["198.51.100.7/32"] # where you are

nodes = {
  one = { roles = ["master", "etcd", "ceph", "docker"], data_disks = { osd = 100 } }
}

# One droplet that is everything, with a data disk: to look at it. About 34 USD a month: 24 for the droplet, 10 for the
# disk of 100 GB (prices change).
cluster       = "small"
region        = "fra1"
ssh           = { key_file = "~/.ssh/id_ed25519" }
allowed_cidrs = ["198.51.100.7/32"] # where you are

nodes = {
  one = { roles = ["master", "etcd", "ceph", "docker"], data_disks = { osd = 100 } }
}

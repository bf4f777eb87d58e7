# Who may reach what. Nothing but SSH is open to the outside, and that to the allowed networks alone; inside, each
# role's ports are open to the roles that use them. A firewall's form of this is the root's business.
locals {
  rules = {
    etcd_clients  = { to = "etcd", first = 2379, last = 2379, from = ["node"] }
    etcd_peers    = { to = "etcd", first = 2380, last = 2380, from = ["etcd"] }
    salt          = { to = "master", first = 4505, last = 4506, from = ["node"] }
    ceph_monitors = { to = "ceph", first = 3300, last = 3300, from = ["ceph", "docker"] }
    ceph_legacy   = { to = "ceph", first = 6789, last = 6789, from = ["ceph", "docker"] }
    ceph_daemons  = { to = "ceph", first = 6800, last = 7568, from = ["ceph", "docker"] }
  }
}

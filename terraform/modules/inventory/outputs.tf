output "inventory" {
  description = "The cluster: its name, its master, its nodes with addresses, sorted roles and data disks, and the nodes by role."
  value = {
    cluster = var.cluster
    master  = local.master
    nodes   = local.nodes
    roles = {
      for role in ["master", "etcd", "ceph", "docker"] : role =>
      sort([for name, node in local.nodes : name if contains(node.roles, role)])
    }
  }
}

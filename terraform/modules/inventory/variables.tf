variable "cluster" {
  description = "The cluster's name: lower-case letters, digits and hyphens, at most 32 characters, beginning with a letter."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.cluster))
    error_message = "The cluster name \"${var.cluster}\" is not valid: it begins with a lower-case letter and has at most 32 lower-case letters, digits and hyphens."
  }
}

variable "nodes" {
  description = "The hosts by name, which becomes the minion id: where they are reached, in the cluster and by SSH, their roles, and the devices of their data disks."
  type = map(object({
    address         = string
    roles           = list(string)
    private_address = string
    disks           = optional(list(string), [])
  }))
  nullable = false

  validation {
    condition = length([
      for name in keys(var.nodes) : name if !can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))
    ]) == 0
    error_message = "A node's name is not valid: ${join(", ", [
      for name in keys(var.nodes) : name if !can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))
    ])}; use a host name of lower-case letters, digits and hyphens, without a domain."
  }

  validation {
    condition = alltrue([
      for node in values(var.nodes) : alltrue([for role in node.roles : contains(["master", "etcd", "ceph", "docker"], role)])
    ])
    error_message = "There is no such role: ${join(", ", distinct(flatten([
      for name, node in var.nodes : [for role in node.roles : "${role} (${name})" if !contains(["master", "etcd", "ceph", "docker"], role)]
    ])))}; the roles are master, etcd, ceph and docker."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : length(node.roles) == length(distinct(node.roles))])
    error_message = "A role is listed twice for ${join(", ", [for name, node in var.nodes : name if length(node.roles) != length(distinct(node.roles))])}; list each role once."
  }

  validation {
    condition     = length([for node in values(var.nodes) : node if contains(node.roles, "master")]) == 1
    error_message = "A cluster has exactly one node with the role master; here ${length([for node in values(var.nodes) : node if contains(node.roles, "master")])} have it."
  }

  validation {
    condition = (
      length([for node in values(var.nodes) : node if contains(node.roles, "etcd")]) == 0 ||
      length([for node in values(var.nodes) : node if contains(node.roles, "etcd")]) % 2 == 1
    )
    error_message = "${length([for node in values(var.nodes) : node if contains(node.roles, "etcd")])} nodes have the role etcd: an even number bears no more failures than one less; give it to 1, 3 or 5 nodes."
  }

  validation {
    condition     = length(values(var.nodes)[*].address) == length(distinct(values(var.nodes)[*].address))
    error_message = "Two nodes have the same address: ${join(", ", [for name, node in var.nodes : "${name} (${node.address})" if length([for other in values(var.nodes) : other if other.address == node.address]) > 1])}; every node is a host of its own."
  }
}

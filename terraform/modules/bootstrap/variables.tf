variable "inventory" {
  description = "The cluster, as the module inventory gives it."
  type = object({
    cluster = string
    master  = string
    nodes   = map(object({ address = string, private_address = string, roles = list(string), disks = list(string) }))
    roles   = map(list(string))
  })
}

variable "ways" {
  description = "How ssh reaches each node: the environment of files/over.sh. Nothing in it is secret; the private key is a path."
  type        = map(map(string))
}

variable "project" {
  description = "The project's folder on this machine, whose trees salt/ and plugin/ and whose pinned versions go to the hosts."
  type        = string
}

variable "pillar" {
  description = "The folder on this machine with the cluster's pillar."
  type        = string
}

# Hosts, and data that outlives them.
# The distribution's own image, unless one is named.
data "aws_ami" "debian" {
  count = var.image == null ? 1 : 0

  most_recent = true
  owners      = ["136693071363"] # Debian

  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }
}

resource "aws_key_pair" "this" {
  key_name   = var.cluster
  public_key = local.public_key
}

resource "aws_placement_group" "this" {
  name     = var.cluster
  strategy = "spread" # no two nodes on the same hardware
}

resource "aws_instance" "node" {
  for_each = local.nodes

  ami                         = var.image == null ? data.aws_ami.debian[0].id : var.image
  instance_type               = each.value.size
  key_name                    = aws_key_pair.this.key_name
  subnet_id                   = aws_subnet.zone[local.zone[each.key]].id
  placement_group             = aws_placement_group.this.name
  vpc_security_group_ids      = [for role, group in aws_security_group.role : group.id if role == "node" || contains(each.value.roles, role)]
  associate_public_ip_address = true
  ebs_optimized               = true
  user_data                   = module.first_boot[each.key].user_data
  tags                        = { Name = "${var.cluster}-${each.key}" }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # not for containers
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = each.value.root_disk
    encrypted   = true
  }

  lifecycle {
    ignore_changes = [ami, user_data, key_name] # of hosts yet to come
  }

  # the way out, for the first boot
  depends_on = [aws_route_table_association.zone]
}

resource "aws_ebs_volume" "data" {
  for_each = local.disks

  # of the node's description, never the instance's: a new instance must not mean a new volume
  availability_zone = "${var.region}${local.zone[each.value.node]}"
  size              = each.value.size
  type              = "gp3"
  encrypted         = true
  tags              = { Name = "${var.cluster}-${each.value.node}-${each.value.disk}" }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "data" {
  for_each = { for name, disk in local.disks : name => disk if var.nodes[disk.node].instance }

  # by the disk's own name, so that one more moves none that is there; the host shows it by its volume's id
  device_name = "/dev/xvdb${substr(each.value.disk, 0, 1)}"
  instance_id = aws_instance.node[each.value.node].id
  volume_id   = aws_ebs_volume.data[each.key].id

  # what is in use does not come off a running host
  stop_instance_before_detaching = true
}

# One volume of each kind that a single host serves:
#   salt-call --local state.apply examples.volumes
# and away with them again:
#   salt-call --local state.apply examples.no_volumes

example-local:
  dsvolume.present:
    - policy: local

example-ext4:
  dsvolume.present:
    - policy: local
    - fstype: ext4
    - size: 100
    - labels:
        purpose: example

example-ram:
  dsvolume.present:
    - policy: ram
    - size: 16

example-secure:
  dsvolume.present:
    - policy: secure
    - size: 16

example-ext4 is mounted:
  dsvolume.mounted:
    - name: example-ext4

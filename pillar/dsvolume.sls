# Which storage serves which policy, decided once for the cluster. Later wins: the defaults,
# /etc/dsvolume/config.yaml, the minion's configuration, this pillar.
dsvolume:
  policies:
    local: ds-local
    ram: ds-ram
    secure: ds-ram

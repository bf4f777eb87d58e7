# An update with a way back, over all nodes:
#   salt-run state.orchestrate orch.update pillar='{volume: db, update: myapp.update}'
# 1. the volume is there; 2. a snapshot of it is; 3. the states of the update are applied everywhere.
# Where all went well the snapshot goes; else the volume is as it was, and the snapshot stays (another
# run wants another one: pillar `snapshot`). The volume must not be mounted by then: let the update
# unmount what it mounts. The node that has the data needs its agent.

{% set volume = pillar["volume"] %}
{% set update = pillar["update"] %}
{% set tgt = pillar.get("tgt", "*") %}
{% set snapshot = volume ~ "@" ~ pillar.get("snapshot", "before-update") %}

the volume is there:
  salt.function:
    - name: dsvolume.create
    - tgt: {{ tgt | json }}
    - arg:
      - {{ volume | json }}
    - kwarg:
        policy: local
        fstype: {{ pillar.get("fstype", "ext4") }}
        size: {{ pillar.get("size", 100) }}

the snapshot is taken:
  salt.function:
    - name: dsvolume.snapshot_create
    - tgt: {{ tgt | json }}
    - arg:
      - {{ snapshot | json }}
    - require:
      - salt: the volume is there

the update:
  salt.state:
    - tgt: {{ tgt | json }}
    - sls: {{ update | json }}
    - require:
      - salt: the snapshot is taken

the volume is as before:
  salt.function:
    - name: dsvolume.rollback
    - tgt: {{ tgt | json }}
    - arg:
      - {{ snapshot | json }}
    - onfail:
      - salt: the update

the snapshot is not needed any more:
  salt.function:
    - name: dsvolume.snapshot_rm
    - tgt: {{ tgt | json }}
    - arg:
      - {{ snapshot | json }}
    - require:
      - salt: the update

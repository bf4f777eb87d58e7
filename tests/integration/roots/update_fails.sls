# An update that writes into the volume where its data are, and fails on one other node.
{% set name = pillar["volume"] %}
{% if salt["dsvolume.info"](name)[0]["Node"] == grains["id"] %}
the volume is mounted:
  dsvolume.mounted:
    - name: {{ name }}

the update is written:
  file.managed:
    - name: {{ salt["dsvolume.version"]()["mount_root"] }}/{{ name }}/update
    - contents: half done

the volume is free again:
  dsvolume.unmounted:
    - name: {{ name }}
{% else %}
the update fails here:
  test.fail_without_changes: []
{% endif %}

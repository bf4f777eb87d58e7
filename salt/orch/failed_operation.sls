{#-
  What follows on a failed operation: here the doctor looks at the node where it failed, and its findings are
  the orchestration's answer. It only looks: what it wrote could fail, and be the next event.
#}
{%- set event = pillar['event'] %}
findings:
  salt.function:
    - name: dsvolume.doctor
    - tgt: [{{ event['Node'] | json }}]
    - tgt_type: list

ids of events older than events are kept:
  file.tidied:
    - name: {{ opts['cachedir'] }}/libstorage_events
    - age: 8
    - age_size_only: age
    - time_comparison: mtime

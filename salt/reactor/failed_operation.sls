{#-
  A failed operation starts the orchestration orch.failed_operation. In the master's configuration:

    reactor:
      - 'libstorage/*/failed':
        - salt://reactor/failed_operation.sls

  An event may come again (docs/events.md), with the id that it had: its orchestration has a file of that
  name, which orch.failed_operation deletes after a while. Any minion can send any event, hence the look at
  what is to be a file's name.
#}
{%- set id = data.get('Id', '') %}
{%- set seen = opts['cachedir'] ~ '/libstorage_events/' ~ id %}
{%- if id is match('[0-9a-f]{32}$') and not salt['file.file_exists'](seen) %}
{%- do salt['file.makedirs'](seen) %}
{%- do salt['file.touch'](seen) %}
react to {{ id }}:
  runner.state.orchestrate:
    - args:
      - mods: orch.failed_operation
      - pillar:
          event: {{ data | json }}
{%- endif %}

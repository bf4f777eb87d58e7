# Where no agent runs, the doctor does its housekeeping: it finishes or undoes what killed
# processes left, and forgets old events.

dsvolume-doctor:
  schedule.present:
    - function: dsvolume.doctor
    - job_kwargs:
        fix: True
    - minutes: 5
    - splay: 30
    - maxrunning: 1

"""Celery settings of every process. Several defaults lose messages or stop workers."""

# --- Losing nothing -----------------------------------------------------------------------------

# A message is acknowledged when its work is committed: a worker that dies gives it back.
task_acks_late = True
# By default a failed or timed-out task is acknowledged, which is to say lost. Ours are parked.
task_acks_on_failure = False
task_acks_on_timeout = False
# A lost child process (killed, out of memory) gives its message back; the queue's delivery limit
# parks the one that kills every child.
task_reject_on_worker_lost = True
# Celery's own repetition would publish to the exchange that a message came from: to all.
task_retry_on_worker_lost = False
# After a lost connection the broker delivers again what runs now: stop it, do not run it twice.
worker_cancel_long_running_tasks_on_connection_loss = True

# --- Limits -------------------------------------------------------------------------------------

# Seconds. A handler takes milliseconds; the broker closes a channel after 30 minutes.
task_soft_time_limit: int | None = 30
task_time_limit: int | None = 45

# --- Staying connected --------------------------------------------------------------------------

# For ever: the default gives up after 100 attempts, and an outage of the broker may be long.
broker_connection_max_retries = None
broker_connection_retry_on_startup = True
# A channel error (a queue deleted, a right missing) ends the worker by default; ours reconnects.
broker_channel_error_retry = True
# Seconds. A broker that accepts but does not answer is tried again.
broker_connection_timeout = 5

# --- Declaring nothing --------------------------------------------------------------------------

# The topology is `orderctl`'s; a process that declares could only disagree with it.
task_create_missing_queues = False
# Remote control needs queues and rights, and lets any worker stop any other.
worker_enable_remote_control = False

# --- What may run -------------------------------------------------------------------------------

accept_content = ["json"]
task_serializer = "json"
result_accept_content = ["json"]
# Results are events; there is no result backend.
task_ignore_result = True

# --- Doing nothing that nobody reads ------------------------------------------------------------

# Celery's own sender of them: a worker tells onlookers by `eventbus.worker.task_events`.
worker_send_task_events = False
task_send_sent_event = False
worker_disable_rate_limits = True
worker_hijack_root_logger = False
worker_redirect_stdouts = False
timezone = "UTC"

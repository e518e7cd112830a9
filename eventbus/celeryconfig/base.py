"""Celery settings for every process. Several of Celery's defaults lose messages or stop workers."""

# --- No lost messages ---------------------------------------------------------------------------

# A message is acknowledged after its work is committed: if the worker dies, it is redelivered.
task_acks_late = True
# By default, the message of a failed or timed-out task is acknowledged and therefore lost. Here it
# is parked.
task_acks_on_failure = False
task_acks_on_timeout = False
# If a child process is lost (killed, out of memory), its message must not be acknowledged: it goes
# through the retry tiers, and is parked after the last tier.
task_reject_on_worker_lost = True
# With this setting on, Celery would republish the message to its exchange, and therefore to all
# services.
task_retry_on_worker_lost = False
# After a lost connection, the broker redelivers the messages of running tasks. These tasks are
# cancelled, because they would otherwise run twice.
worker_cancel_long_running_tasks_on_connection_loss = True

# --- Limits -------------------------------------------------------------------------------------

# Time limits in seconds. A handler takes milliseconds; the broker closes a channel after 30
# minutes.
task_soft_time_limit: int | None = 30
task_time_limit: int | None = 45

# --- Staying connected --------------------------------------------------------------------------

# The worker reconnects indefinitely: the default is 100 attempts, and a broker outage may last
# longer.
broker_connection_max_retries = None
broker_connection_retry_on_startup = True
# By default, a channel error (deleted queue, missing permission) terminates the worker. Here the
# worker reconnects.
broker_channel_error_retry = True
# Seconds to wait for a broker that accepts the connection but does not respond.
broker_connection_timeout = 5

# --- No declarations ----------------------------------------------------------------------------

# `orderctl` declares the topology; a declaration by another process could only conflict with it.
task_create_missing_queues = False
# Remote control requires queues and permissions, and allows any worker to stop any other.
worker_enable_remote_control = False

# --- Accepted messages --------------------------------------------------------------------------

accept_content = ["json"]
task_serializer = "json"
result_accept_content = ["json"]
# Results are events; there is no result backend.
task_ignore_result = True

# --- No unused work -----------------------------------------------------------------------------

# Celery's sender of task events is off: workers publish them with `eventbus.worker.task_events`.
worker_send_task_events = False
task_send_sent_event = False
worker_disable_rate_limits = True
worker_hijack_root_logger = False
worker_redirect_stdouts = False
timezone = "UTC"

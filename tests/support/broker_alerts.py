"""The alerts on the broker and its queues, with series for which each fires or does not fire."""

from eventbus.topology.limits import QUEUE_LIMIT
from tests.support.promtool import Case


def _attempts(service: str, outcome: str) -> str:
    return f'orders_handler_seconds_count{{service="{service}",outcome="{outcome}"}}'


def _queue(figure: str, service: str) -> str:
    return f'rabbitmq_detailed_queue_{figure}{{queue="{service}.queue"}}'


def _node(name: str) -> str:
    return f'rabbitmq_identity_info{{job="rabbitmq",rabbitmq_node="{name}"}}'


BROKER_ALERTS = {
    "EventUnroutable": Case(
        at="5m",
        bad={'orders_outbox_unroutable{service="order",process="api"}': "1x20"},
        good={'orders_outbox_unroutable{service="order",process="api"}': "0x20"},
        labels=({"service": "order"},),
    ),
    "QueueGrowing": Case(
        at="15m",
        bad={'rabbitmq_detailed_queue_messages{queue="order.queue"}': "900+100x20"},
        good={
            # A long queue that shrinks, a short queue that grows, and a parking lot.
            'rabbitmq_detailed_queue_messages{queue="order.queue"}': "9000-100x20",
            'rabbitmq_detailed_queue_messages{queue="inventory.queue"}': "0+10x20",
            'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "900+100x20",
        },
        labels=({"queue": "order.queue"},),
    ),
    "QueueWithoutConsumer": Case(
        at="5m",
        bad={'rabbitmq_detailed_queue_consumers{queue="inventory.queue"}': "1 0x20"},
        good={
            'rabbitmq_detailed_queue_consumers{queue="inventory.queue"}': "1 0 1x20",
            # An operator has paused the service.
            'rabbitmq_detailed_queue_consumers{queue="fraud.queue.1"}': "0x20",
            'orders_operator_pause_seconds{service="fraud"}': "60+60x20",
            # These queues never have a consumer.
            'rabbitmq_detailed_queue_consumers{queue="inventory.retry.1s"}': "0x20",
            'rabbitmq_detailed_queue_consumers{queue="inventory.dlq"}': "0x20",
            # A process continues without ticks.
            'rabbitmq_detailed_queue_consumers{queue="inventory.relay"}': "0x20",
        },
        labels=({"queue": "inventory.queue", "service": "inventory"},),
    ),
    "TickQueueWithoutConsumer": Case(
        at="5m",
        bad={'rabbitmq_detailed_queue_consumers{queue="order.relay"}': "1 0x20"},
        good={
            'rabbitmq_detailed_queue_consumers{queue="order.relay"}': "1 0 1x20",
            # QueueWithoutConsumer reports it.
            'rabbitmq_detailed_queue_consumers{queue="order.queue"}': "0x20",
        },
        labels=({"queue": "order.relay"},),
    ),
    "MessageParked": Case(
        at="5m",
        bad={'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "0 1x20"},
        good={
            'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "0x20",
            'rabbitmq_detailed_queue_messages{queue="order.queue"}': "1x20",
        },
        labels=({"queue": "order.dlq"},),
    ),
    "BrokerUnreachable": Case(
        at="5m",
        bad={
            'up{job="rabbitmq"}': "1 0x20",
            'orders_broker_connected{process="order-worker"}': "1 0x20",
        },
        good={
            'up{job="rabbitmq"}': "1x20",
            'orders_broker_connected{process="order-worker"}': "1x20",
        },
        labels=({"job": "rabbitmq"}, {"process": "order-worker"}),
    ),
    "ConsumerStalled": Case(
        at="30m",
        bad={
            _queue("messages_unacked", "order"): "400x40",
            _attempts("order", "handled"): "0+100x4 500x40",
            # A worker that has not handled an event yet.
            _queue("messages_unacked", "fraud"): "0x5 1x40",
        },
        good={
            # A worker that is always busy, and an idle one.
            _queue("messages_unacked", "order"): "400x40",
            _attempts("order", "handled"): "0+100x40",
            _queue("messages_unacked", "inventory"): "0x40",
            _attempts("inventory", "handled"): "500x40",
        },
        labels=(
            {"queue": "fraud.queue", "service": "fraud"},
            {"queue": "order.queue", "service": "order"},
        ),
    ),
    "QueueNotDraining": Case(
        at="30m",
        bad={
            _queue("messages", "order"): "900000x40",
            _attempts("order", "handled"): "0+100x4 500x40",
        },
        good={
            # A queue that shrinks, and one event that waits for a night.
            _queue("messages", "order"): "900000x40",
            _attempts("order", "handled"): "0+100x40",
            _queue("messages", "inventory"): "1x40",
            # An operator has paused the service.
            _queue("messages", "fraud"): "900x40",
            'orders_operator_pause_seconds{service="fraud"}': "60+60x40",
            'rabbitmq_detailed_queue_messages{queue="order.dlq"}': "900x40",
        },
        labels=({"queue": "order.queue", "service": "order"},),
    ),
    "QueueHalfFull": Case(
        at="5m",
        bad={_queue("messages", "order"): f"{QUEUE_LIMIT // 2}x20"},
        good={
            _queue("messages", "order"): f"{QUEUE_LIMIT // 2 - 1}x20",
            'rabbitmq_detailed_queue_messages{queue="orders.stream"}': f"{QUEUE_LIMIT}x20",
        },
        labels=({"queue": "order.queue"},),
    ),
    "QueueMetricsMissing": Case(
        at="10m",
        # The broker reports the messages of the queue, but not its consumers.
        bad={'up{job="rabbitmq-queues"}': "1x20", _queue("messages", "order"): "0x20"},
        good={_queue("messages", "order"): "0x20", _queue("consumers", "order"): "0x20"},
        labels=({"queue": "order.queue"},),
    ),
    "BrokerAlarm": Case(
        at="5m",
        bad={
            'rabbitmq_alarms_memory_used_watermark{instance="a"}': "0 1x20",
            'rabbitmq_alarms_memory_used_watermark{instance="b"}': "0x20",
            'rabbitmq_alarms_free_disk_space_watermark{instance="b"}': "0 1x20",
        },
        good={
            'rabbitmq_alarms_memory_used_watermark{instance="a"}': "0x20",
            'rabbitmq_alarms_free_disk_space_watermark{instance="a"}': "0x20",
        },
        labels=({"alarm": "disk"}, {"alarm": "memory"}),
    ),
    "BrokerNodeMissing": Case(
        at="60m",
        bad={_node("a"): "1x80", _node("b"): "1x80", _node("c"): "1x30 stale"},
        good={
            # One node was restarted, and one joined the cluster.
            _node("a"): "1x80",
            _node("b"): "1x30 stale 1x60",
            _node("c"): "_x30 1x50",
        },
    ),
    "PublishingRejected": Case(
        at="10m",
        bad={'orders_relay_lane_open{service="order",type="order.created"}': "0 1x20"},
        good={'orders_relay_lane_open{service="order",type="order.created"}': "0 1 0x20"},
        labels=({"service": "order", "type": "order.created"},),
    ),
}

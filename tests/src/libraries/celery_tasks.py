"""Celery: a worker of its own, results, retries, ETA, chains and chords, remote control, revoking."""
import os, subprocess, sys, time
from datetime import datetime, timedelta, timezone

from celery import Celery, chain, chord, group

url = os.environ["CACHE_URL"]
app = Celery("celery_tasks", broker=url + "/0", backend=url + "/1")
app.conf.update(
    broker_connection_retry_on_startup=True, result_expires=60, task_send_sent_event=True, worker_send_task_events=True,
    broker_transport_options={"priority_steps": [0, 5, 9], "queue_order_strategy": "priority"}, task_track_started=True,
)


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="fail")
def fail():
    raise ValueError("never")


@app.task(name="flaky", bind=True, max_retries=3)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return self.request.retries


@app.task(name="progress", bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1})
    return self.backend.get_task_meta(self.request.id)["status"]


def seen_by_receiver(events):
    """What the worker announces: events travel over pub/sub."""
    seen = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: seen.append(event["type"])})
        consumer = receiver.itercapture(limit=None, timeout=0.5, wakeup=True)
        sent = False
        deadline = time.time() + 20
        while not events <= set(seen):
            assert time.time() < deadline, seen
            try:
                next(consumer)
            except TimeoutError:
                pass
            except StopIteration:
                consumer = receiver.itercapture(limit=None, timeout=0.5, wakeup=False)
            if not sent:
                add.delay(1, 1)
                sent = True
    return sorted(events)


def main():
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2", "-Q", "celery,other", "-n", "w@test",
         "--loglevel", "WARNING", "--without-mingle"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.environ["PYTHONPATH"]]), "C_FORCE_ROOT": "1"},
        stdout=sys.stderr,
    )
    try:
        print(add.delay(2, 3).get(timeout=30))
        print(group(add.s(i, i) for i in range(5))().get(timeout=10))
        print(chain(add.s(1, 2), add.s(10), add.s(100))().get(timeout=10))
        print(chord([add.s(i, 1) for i in range(6)])(total.s()).get(timeout=10))
        print((group(add.s(1, 1), add.s(2, 2)) | total.s() | add.s(1)).delay().get(timeout=10))
        result = fail.delay()
        print(type(result.get(timeout=10, propagate=False)).__name__, result.state, "ValueError: never" in result.traceback)
        print(flaky.delay().get(timeout=10), progress.delay().get(timeout=10))
        start = time.time()
        later = add.apply_async((5, 5), eta=datetime.now(timezone.utc) + timedelta(seconds=0.6), priority=9, queue="other")
        print(later.get(timeout=10), time.time() - start >= 0.5)
        print(app.control.inspect(timeout=2, destination=["w@test"]).ping())
        print(sorted(app.control.inspect(timeout=2, destination=["w@test"]).registered()["w@test"])[:3])
        far = add.apply_async((1, 1), countdown=600)
        deadline = time.time() + 10
        # A task with an ETA waits in the worker.
        while not (app.control.inspect(timeout=1, destination=["w@test"]).scheduled() or {}).get("w@test"):
            assert time.time() < deadline
        app.control.revoke(far.id)
        reply = app.control.rate_limit("add", "1000/s", reply=True, destination=["w@test"], timeout=2)
        print(reply, seen_by_receiver({"task-sent", "task-received", "task-started", "task-succeeded"}))
        results = [add.delay(i, i) for i in range(50)]
        print(sum(each.get(timeout=20) for each in results))
        for each in results:
            each.forget()
        print(results[0].state, app.control.purge() >= 0)
    finally:
        worker.terminate()
        worker.wait(30)
    print("ended", worker.returncode)
    # Nobody works: tasks wait in their queues, one list a priority.
    add.apply_async((1, 2))
    add.apply_async((1, 2), priority=9)
    import redis

    r = redis.Redis.from_url(url, decode_responses=True)
    with app.connection_for_read() as connection:
        print(connection.default_channel.queue_declare("celery", passive=True).message_count)
    print(sorted(name for name in r.keys("celery*")), r.smembers("_kombu.binding.celery"), app.control.purge())
    print("end")


if __name__ == "__main__":
    main()

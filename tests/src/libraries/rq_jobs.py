"""RQ: workers, retries, the failed registry, scheduled and repeated jobs, dependencies, results."""
import os, sys, time
from datetime import timedelta

import redis
from rq import Callback, Queue, Repeat, Retry, SimpleWorker, Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry
from rq.scheduler import RQScheduler

url = os.environ["CACHE_URL"]


def add(a, b):
    return a + b


def fail(path):
    raise ValueError(path)


def done(job, connection, result):
    connection.rpush("done", f"{result}")


def failed(job, connection, kind, value, trace):
    connection.rpush("failed", f"{kind.__name__} {value}")


def main():
    r = redis.Redis.from_url(url)
    r.flushall()
    # RQ names a function by its module: the same as when a worker imports it.
    import rq_jobs as jobs

    queue = Queue("mail", connection=r)
    urgent = Queue("urgent", connection=r)
    one = queue.enqueue(jobs.add, 1, 2, on_success=Callback(jobs.done), result_ttl=100, job_id="one")
    queue.enqueue_many([Queue.prepare_data(jobs.add, (n, n), job_id=f"many{n}") for n in range(3)])
    after = queue.enqueue(jobs.add, 3, 4, depends_on=one, job_id="after")
    bad = urgent.enqueue(jobs.fail, "x", retry=Retry(max=2), on_failure=Callback(jobs.failed), job_id="bad")
    print(queue.job_ids, queue.count, after.get_status().value, [str(name) for name in sorted(q.name for q in Queue.all(connection=r))])
    worker = SimpleWorker([urgent, queue], connection=r, name="worker1")
    print(worker.work(burst=True, logging_level="WARNING"))
    print(one.return_value(), after.return_value(), Job.fetch("many2", connection=r).result, r.lrange("done", 0, -1), r.lrange("failed", 0, -1))
    print(bad.get_status(refresh=True).value, FailedJobRegistry(queue=urgent).get_job_ids(), "ValueError: x" in bad.latest_result().exc_string)
    print(sorted(FinishedJobRegistry(queue=queue).get_job_ids()), one.latest_result().type.name, r.ttl("rq:job:one") > 90)
    FailedJobRegistry(queue=urgent).requeue("bad")
    print(urgent.job_ids)
    # A forking worker with its own scheduler; this process asks meanwhile.
    queue.enqueue_in(timedelta(seconds=1), jobs.add, 20, 2, job_id="later")
    queue.enqueue(jobs.add, 1, 1, repeat=Repeat(times=1, interval=1), job_id="again")
    print(ScheduledJobRegistry(queue=queue).get_job_ids())
    pid = os.fork()
    if pid == 0:
        own = redis.Redis.from_url(url)
        Worker([Queue("mail", connection=own)], connection=own, name="worker2").work(with_scheduler=True, logging_level="ERROR")
        os._exit(0)
    later = Job.fetch("later", connection=r)
    deadline = time.time() + 20
    while not later.is_finished or len(Job.fetch("again", connection=r).results()) < 2:
        assert time.time() < deadline, (later.get_status(), r.keys("*"))
        time.sleep(0.05)
        later.refresh()
    print(later.return_value(), len(Job.fetch("again", connection=r).results()))
    print(sorted(w.name for w in Worker.all(connection=r)), Worker.count(connection=r), r.exists(RQScheduler.get_locking_key("mail")))
    # Commands to workers travel over pub/sub.
    from rq.command import send_shutdown_command

    send_shutdown_command(r, "worker2")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(Worker.count(connection=r), urgent.empty(), urgent.count)
    one.delete()
    try:
        Job.fetch("one", connection=r)
    except NoSuchJobError:
        print("gone")
    print("end")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()

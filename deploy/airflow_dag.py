"""A night of topkin in Apache Airflow: check, then run, of the day that the schedule names."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

CONFIG = "s3://shop/topkin.toml"


class Topkin(BashOperator):
    """A command of topkin, which fails without another try where its exit code is one to skip on."""

    def execute(self, context):  # noqa: D102 - Airflow's
        try:
            return super().execute(context)
        except AirflowSkipException as e:
            raise AirflowFailException("another try would come to the same: what topkin said is above") from e


with DAG(
    dag_id="topkin",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={  # a second try goes on after the last stage; wrong usage, bad input and gates come to the same again
        "retries": 2,
        "retry_delay": timedelta(minutes=10),
        "skip_on_exit_code": [2, 3, 4],
    },
    dagrun_timeout=timedelta(hours=8),
) as dag:
    check = Topkin(
        task_id="check",
        bash_command=f"topkin check --config {CONFIG} --as-of {{{{ data_interval_end | ds }}}}",
        retries=0,
    )
    run = Topkin(  # exec: signals reach it
        task_id="run",
        bash_command=f"exec topkin run --config {CONFIG} --as-of {{{{ data_interval_end | ds }}}}",
        execution_timeout=timedelta(hours=6),
    )
    check >> run

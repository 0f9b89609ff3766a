"""The start script of an instance of a Neuron fleet, generated from its placement."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from containers.neuron_encoder.placement import Placement, Process

FRONT_PORT = 8080
METRICS_NAMESPACE = "NeuronEncoder"
_METRICS = Path(__file__).parent / "neuron_host_files" / "neuron_metrics.py"
_FOLDER = "/etc/neuron-encoder"
_SETUP_LOG = "/var/log/neuron-encoder-setup.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProps:
    """Inputs of the start script; their values may contain references that CloudFormation resolves.

    endpoint: name and metric dimension. registry: host of the image. model_url: S3 URL of the archive.
    archive_sha256: the archive's hash as its build reported it, in hex. stack, group: names of the stack and of its
    resource that wait for the instance. start_seconds: how long the processes may take to respond.
    """

    endpoint: str
    image: str
    registry: str
    model_url: str
    archive_sha256: str
    region: str
    serving_log_group: str
    metrics_log_group: str
    environment: Mapping[str, str]
    placement: Placement
    stack: str
    group: str
    start_seconds: int


def start_script(props: HostProps) -> str:
    """Return the script that installs packages, archive and image, then starts processes, proxy and metrics.

    The packages are Amazon Linux's own and come from its repositories in S3, which a network without internet reaches.
    The image has others besides, which it does not reach.
    """
    processes = props.placement.processes
    files = {
        f"{_FOLDER}/serving.env": _lines(f"{name}={value}" for name, value in sorted(props.environment.items())),
        **{f"{_FOLDER}/{process.index}.env": _process_environment(process) for process in processes},
        "/etc/systemd/system/neuron-encoder@.service": _process_service(props),
        "/etc/nginx/nginx.conf": proxy_configuration(processes),
        f"{_FOLDER}/cloudwatch.json": _agent_configuration(props),
        f"{_FOLDER}/monitor.json": _monitor_configuration(),
        f"{_FOLDER}/neuron_metrics.py": _METRICS.read_text(),
        "/etc/systemd/system/neuron-encoder-metrics.service": _metrics_service(props),
    }
    services = [*(f"neuron-encoder@{process.index}" for process in processes), "nginx", "neuron-encoder-metrics"]
    return "\n".join(
        [
            "#!/bin/bash",
            "set -euo pipefail",
            f"exec >{_SETUP_LOG} 2>&1",
            *_signal(props),
            "dnf install --assumeyes --disablerepo='*' --enablerepo=amazonlinux amazon-cloudwatch-agent docker nginx",
            f"install --directory {_FOLDER} /opt/neuron-encoder/model",
            *(_file(path, content) for path, content in files.items()),
            "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl "
            f"-a fetch-config -m ec2 -s -c file:{_FOLDER}/cloudwatch.json",
            "systemctl enable --now docker",
            f"aws s3 cp --only-show-errors --region {props.region} {props.model_url} /opt/neuron-encoder/model.tar.gz",
            f"echo '{props.archive_sha256}  /opt/neuron-encoder/model.tar.gz' | sha256sum --check --strict --quiet",
            "tar --extract --gzip --no-same-owner --file /opt/neuron-encoder/model.tar.gz "
            "--directory /opt/neuron-encoder/model",
            "rm /opt/neuron-encoder/model.tar.gz",
            f"aws ecr get-login-password --region {props.region} "
            f"| docker login --username AWS --password-stdin {props.registry}",
            f"docker pull --quiet {props.image}",
            f"docker logout {props.registry}",
            "systemctl daemon-reload",
            f"systemctl enable --now {' '.join(services)}",
            f"for second in $(seq {props.start_seconds}); do",
            f"  if curl --fail --silent --output /dev/null http://127.0.0.1:{FRONT_PORT}/ping; then",
            "    signal SUCCESS",
            "    exit",
            "  fi",
            "  sleep 1",
            "done",
            "false",
            "",
        ]
    )


def _signal(props: HostProps) -> Sequence[str]:
    """Return the shell function that tells CloudFormation how the start went; any failed command tells it, too.

    An instance that scaling starts signals as well. No deployment waits for it then, and CloudFormation refuses.
    """
    return (
        "signal() {",
        f"  aws cloudformation signal-resource --region {props.region} --stack-name {props.stack} "
        f'--logical-resource-id {props.group} --unique-id "$(cloud-init query instance_id)" --status "$1" || true',
        "}",
        "trap 'signal FAILURE' ERR",
    )


def proxy_configuration(processes: Sequence[Process]) -> str:
    """Return the nginx configuration: any process serves `/ping` and `/invocations`, each serves its own cores' path.

    A process that is down or full is skipped. Inference is idempotent, so another process may retry the request.
    """
    every = "\n".join(f"    server 127.0.0.1:{process.port} max_fails=1 fail_timeout=2s;" for process in processes)
    cores = "\n".join(
        f"    location /predictions_neuron_core_{process.visible_cores}/ "
        f"{{ proxy_pass http://127.0.0.1:{process.port}; }}"
        for process in processes
    )
    return f"""worker_processes auto;
pid /run/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server_tokens off;
  client_max_body_size 6m;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_next_upstream error timeout http_503 non_idempotent;
  upstream every {{
    least_conn;
{every}
    keepalive {4 * len(processes)};
  }}
  server {{
    listen {FRONT_PORT};
    location = /ping {{ proxy_pass http://every; }}
    location = /invocations {{ proxy_pass http://every; }}
{cores}
    location / {{ return 404; }}
  }}
}}
"""


def _process_environment(process: Process) -> str:
    first, last = process.cores[0], process.cores[-1]
    return _lines(
        (
            f"VISIBLE={process.visible_cores}",
            f"CORES={first}-{last}",
            f"PORT={process.port}",
            f"THREADS={process.threads}",
        )
    )


def _process_service(props: HostProps) -> str:
    # Every container has every device, and reserves its own cores by number: with only some of the devices, the runtime
    # would renumber them. Two containers may share a device, never a core.
    devices = " ".join(f"--device /dev/neuron{device}" for device in range(props.placement.instance.devices))
    return f"""[Unit]
Description=BERT on the NeuronCores of process %i
Requires=docker.service
After=docker.service
StartLimitIntervalSec=0

[Service]
EnvironmentFile={_FOLDER}/%i.env
ExecStartPre=-/usr/bin/docker rm --force neuron-encoder-%i
ExecStart=/usr/bin/docker run --rm --name neuron-encoder-%i --pull never --read-only --tmpfs /tmp \\
  --cap-drop ALL --security-opt no-new-privileges {devices} \\
  --volume /opt/neuron-encoder/model:/opt/ml/model:ro --publish 127.0.0.1:${{PORT}}:${{PORT}} \\
  --env NEURON_RT_VISIBLE_CORES=${{VISIBLE}} --env-file {_FOLDER}/serving.env \\
  --log-driver awslogs --log-opt awslogs-region={props.region} --log-opt awslogs-group={props.serving_log_group} \\
  --log-opt tag={{{{.Name}}}} {props.image} core ${{CORES}} ${{PORT}} ${{THREADS}}
ExecStop=/usr/bin/docker stop --time 30 neuron-encoder-%i
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
"""


def _metrics_service(props: HostProps) -> str:
    return f"""[Unit]
Description=Utilization of the NeuronCores for the CloudWatch agent

[Service]
Environment=ENDPOINT={props.endpoint} METRICS_LOG_GROUP={props.metrics_log_group}
ExecStart=/bin/bash -c '/opt/aws/neuron/bin/neuron-monitor -c {_FOLDER}/monitor.json \\
  | /usr/bin/python3 {_FOLDER}/neuron_metrics.py'
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def _monitor_configuration() -> str:
    groups = [{"type": "neuroncore_counters"}, {"type": "memory_used"}]
    return json.dumps({"period": "15s", "neuron_runtimes": [{"tag_filter": ".*", "metrics": groups}]})


def _agent_configuration(props: HostProps) -> str:
    collected = {
        "file_path": _SETUP_LOG,
        "log_group_name": props.serving_log_group,
        "log_stream_name": "{instance_id}-setup",
    }
    return json.dumps(
        {
            "agent": {"region": props.region},
            "logs": {
                "metrics_collected": {"emf": {}},
                "logs_collected": {"files": {"collect_list": [collected]}},
            },
        }
    )


def _file(path: str, content: str) -> str:
    return f"cat >{path} <<'END_OF_FILE'\n{content.rstrip()}\nEND_OF_FILE"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)

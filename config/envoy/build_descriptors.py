"""Makes descriptors.binpb, the protobuf descriptors that Pillion reads Envoy's configuration with. See README.md."""

import importlib
import pathlib
import pkgutil
import re
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2

HERE = pathlib.Path(__file__).resolve().parent

# Files, or folders (ending in /): everything directly in them. What they import comes with them.
ROOTS = [
    "envoy/config/bootstrap/v3/",
    "envoy/config/listener/v3/",
    "envoy/config/route/v3/",
    "envoy/config/cluster/v3/",
    "envoy/config/endpoint/v3/",
    "envoy/config/accesslog/v3/",
    "envoy/config/rbac/v3/",
    "envoy/config/metrics/v3/",
    "envoy/config/trace/v3/opentelemetry",
    "envoy/config/trace/v3/zipkin",
    "envoy/config/trace/v3/http_tracer",
    "envoy/config/common/matcher/v3/",
    "envoy/service/discovery/v3/",
    "envoy/service/auth/v3/",
    "envoy/service/ratelimit/v3/",
    "envoy/service/runtime/v3/",
    "envoy/service/accesslog/v3/",
    "envoy/service/secret/v3/",
    "envoy/service/status/v3/",
    "envoy/admin/v3/",
    "envoy/extensions/access_loggers/file/v3/",
    "envoy/extensions/access_loggers/stream/v3/",
    "envoy/extensions/access_loggers/grpc/v3/",
    "envoy/extensions/access_loggers/open_telemetry/v3/",
    "envoy/extensions/access_loggers/filters/cel/v3/",
    "envoy/extensions/bootstrap/internal_listener/v3/",
    "envoy/extensions/clusters/aggregate/v3/",
    "envoy/extensions/clusters/dns/v3/",
    "envoy/extensions/clusters/dynamic_forward_proxy/v3/",
    "envoy/extensions/common/ratelimit/v3/",
    "envoy/extensions/compression/gzip/compressor/v3/",
    "envoy/extensions/compression/gzip/decompressor/v3/",
    "envoy/extensions/compression/brotli/compressor/v3/",
    "envoy/extensions/compression/brotli/decompressor/v3/",
    "envoy/extensions/compression/zstd/compressor/v3/",
    "envoy/extensions/compression/zstd/decompressor/v3/",
    "envoy/extensions/filters/common/matcher/action/v3/",
    "envoy/extensions/filters/http/adaptive_concurrency/v3/",
    "envoy/extensions/filters/http/admission_control/v3/",
    "envoy/extensions/filters/http/basic_auth/v3/",
    "envoy/extensions/filters/http/buffer/v3/",
    "envoy/extensions/filters/http/compressor/v3/",
    "envoy/extensions/filters/http/cors/v3/",
    "envoy/extensions/filters/http/csrf/v3/",
    "envoy/extensions/filters/http/decompressor/v3/",
    "envoy/extensions/filters/http/dynamic_forward_proxy/v3/",
    "envoy/extensions/filters/http/ext_authz/v3/",
    "envoy/extensions/filters/http/ext_proc/v3/",
    "envoy/extensions/filters/http/fault/v3/",
    "envoy/extensions/filters/http/grpc_http1_bridge/v3/",
    "envoy/extensions/filters/http/grpc_stats/v3/",
    "envoy/extensions/filters/http/grpc_web/v3/",
    "envoy/extensions/filters/http/header_mutation/v3/",
    "envoy/extensions/filters/http/header_to_metadata/v3/",
    "envoy/extensions/filters/http/health_check/v3/",
    "envoy/extensions/filters/http/ip_tagging/v3/",
    "envoy/extensions/filters/http/jwt_authn/v3/",
    "envoy/extensions/filters/http/local_ratelimit/v3/",
    "envoy/extensions/filters/http/lua/v3/",
    "envoy/extensions/filters/http/oauth2/v3/",
    "envoy/extensions/filters/http/on_demand/v3/",
    "envoy/extensions/filters/http/original_src/v3/",
    "envoy/extensions/filters/http/ratelimit/v3/",
    "envoy/extensions/filters/http/rbac/v3/",
    "envoy/extensions/filters/http/router/v3/",
    "envoy/extensions/filters/http/set_filter_state/v3/",
    "envoy/extensions/filters/http/set_metadata/v3/",
    "envoy/extensions/filters/http/stateful_session/v3/",
    "envoy/extensions/filters/http/tap/v3/",
    "envoy/extensions/filters/http/upstream_codec/v3/",
    "envoy/extensions/filters/http/wasm/v3/",
    "envoy/extensions/filters/listener/http_inspector/v3/",
    "envoy/extensions/filters/listener/local_ratelimit/v3/",
    "envoy/extensions/filters/listener/original_dst/v3/",
    "envoy/extensions/filters/listener/original_src/v3/",
    "envoy/extensions/filters/listener/proxy_protocol/v3/",
    "envoy/extensions/filters/listener/tls_inspector/v3/",
    "envoy/extensions/filters/network/connection_limit/v3/",
    "envoy/extensions/filters/network/direct_response/v3/",
    "envoy/extensions/filters/network/echo/v3/",
    "envoy/extensions/filters/network/ext_authz/v3/",
    "envoy/extensions/filters/network/http_connection_manager/v3/",
    "envoy/extensions/filters/network/local_ratelimit/v3/",
    "envoy/extensions/filters/network/mongo_proxy/v3/",
    "envoy/extensions/filters/network/ratelimit/v3/",
    "envoy/extensions/filters/network/rbac/v3/",
    "envoy/extensions/filters/network/redis_proxy/v3/",
    "envoy/extensions/filters/network/set_filter_state/v3/",
    "envoy/extensions/filters/network/sni_cluster/v3/",
    "envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/",
    "envoy/extensions/filters/network/tcp_proxy/v3/",
    "envoy/extensions/filters/network/wasm/v3/",
    "envoy/extensions/formatter/cel/v3/",
    "envoy/extensions/formatter/metadata/v3/",
    "envoy/extensions/formatter/req_without_query/v3/",
    "envoy/extensions/health_check/event_sinks/file/v3/",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/",
    "envoy/extensions/http/header_formatters/preserve_case/v3/",
    "envoy/extensions/http/original_ip_detection/custom_header/v3/",
    "envoy/extensions/http/original_ip_detection/xff/v3/",
    "envoy/extensions/http/stateful_session/cookie/v3/",
    "envoy/extensions/http/stateful_session/header/v3/",
    "envoy/extensions/internal_redirect/allow_listed_routes/v3/",
    "envoy/extensions/internal_redirect/previous_routes/v3/",
    "envoy/extensions/internal_redirect/safe_cross_scheme/v3/",
    "envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/",
    "envoy/extensions/load_balancing_policies/cluster_provided/v3/",
    "envoy/extensions/load_balancing_policies/common/v3/",
    "envoy/extensions/load_balancing_policies/least_request/v3/",
    "envoy/extensions/load_balancing_policies/maglev/v3/",
    "envoy/extensions/load_balancing_policies/override_host/v3/",
    "envoy/extensions/load_balancing_policies/pick_first/v3/",
    "envoy/extensions/load_balancing_policies/random/v3/",
    "envoy/extensions/load_balancing_policies/ring_hash/v3/",
    "envoy/extensions/load_balancing_policies/round_robin/v3/",
    "envoy/extensions/load_balancing_policies/subset/v3/",
    "envoy/extensions/load_balancing_policies/wrr_locality/v3/",
    "envoy/extensions/matching/common_inputs/environment_variable/v3/",
    "envoy/extensions/matching/common_inputs/network/v3/",
    "envoy/extensions/matching/common_inputs/ssl/v3/",
    "envoy/extensions/matching/common_inputs/transport_socket/v3/",
    "envoy/extensions/matching/input_matchers/consistent_hashing/v3/",
    "envoy/extensions/matching/input_matchers/ip/v3/",
    "envoy/extensions/matching/input_matchers/metadata/v3/",
    "envoy/extensions/matching/input_matchers/runtime_fraction/v3/",
    "envoy/extensions/network/dns_resolver/apple/v3/",
    "envoy/extensions/network/dns_resolver/cares/v3/",
    "envoy/extensions/network/dns_resolver/getaddrinfo/v3/",
    "envoy/extensions/network/socket_interface/v3/",
    "envoy/extensions/path/match/uri_template/v3/",
    "envoy/extensions/path/rewrite/uri_template/v3/",
    "envoy/extensions/rate_limit_descriptors/expr/v3/",
    "envoy/extensions/rbac/audit_loggers/stream/v3/",
    "envoy/extensions/rbac/matchers/upstream_ip_port/v3/",
    "envoy/extensions/rbac/principals/mtls_authenticated/v3/",
    "envoy/extensions/regex_engines/v3/",
    "envoy/extensions/request_id/uuid/v3/",
    "envoy/extensions/resource_monitors/cgroup_memory/v3/",
    "envoy/extensions/resource_monitors/cpu_utilization/v3/",
    "envoy/extensions/resource_monitors/downstream_connections/v3/",
    "envoy/extensions/resource_monitors/fixed_heap/v3/",
    "envoy/extensions/retry/host/omit_canary_hosts/v3/",
    "envoy/extensions/retry/host/omit_host_metadata/v3/",
    "envoy/extensions/retry/host/previous_hosts/v3/",
    "envoy/extensions/retry/priority/previous_priorities/v3/",
    "envoy/extensions/stat_sinks/open_telemetry/v3/",
    "envoy/extensions/tracers/opentelemetry/resource_detectors/v3/",
    "envoy/extensions/tracers/opentelemetry/samplers/v3/",
    "envoy/extensions/transport_sockets/http_11_proxy/v3/",
    "envoy/extensions/transport_sockets/internal_upstream/v3/",
    "envoy/extensions/transport_sockets/proxy_protocol/v3/",
    "envoy/extensions/transport_sockets/raw_buffer/v3/",
    "envoy/extensions/transport_sockets/starttls/v3/",
    "envoy/extensions/transport_sockets/tap/v3/",
    "envoy/extensions/transport_sockets/tcp_stats/v3/",
    "envoy/extensions/transport_sockets/tls/v3/",
    "envoy/extensions/upstreams/http/generic/v3/",
    "envoy/extensions/upstreams/http/http/v3/",
    "envoy/extensions/upstreams/http/tcp/v3/",
    "envoy/extensions/upstreams/http/v3/",
    "envoy/extensions/upstreams/tcp/v3/",
    "envoy/type/matcher/v3/",
    "udpa/type/v1/",
    "xds/type/v3/",
    "xds/type/matcher/v3/",
]


def modules():
    """Names of the generated Python modules behind ROOTS. A root that names nothing is a mistake."""
    for root in ROOTS:
        path = root.rstrip("/").replace("/", ".")
        if not root.endswith("/"):
            yield f"{path}_pb2"
            continue
        package = importlib.import_module(path)
        found = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name.endswith("_pb2")]
        if not found:
            sys.exit(f"{root}: no _pb2 module there")
        yield from (f"{path}.{name}" for name in sorted(found))


def collect(descriptor, files):
    """Adds a file after everything it imports."""
    if descriptor.name in files:
        return
    for dependency in descriptor.dependencies:
        collect(dependency, files)
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(proto)
    files[descriptor.name] = proto


def own_files():
    """Istio's messages in protos/, compiled."""
    protos = sorted((HERE / "protos").glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "own.binpb"
        # Without a prefix, stats.proto would take the name of one of Envoy's files.
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-Iistio={HERE / 'protos'}", f"--descriptor_set_out={out}"]
        subprocess.run(command + [f"istio/{p.name}" for p in protos], check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file


def json_name(name):
    return re.sub(r"_+(.?)", lambda m: m.group(1).upper(), name)


def fill_in(message):
    """Python leaves json_name out; without it camelCase input would be refused."""
    for field in [*message.field, *message.extension]:
        field.json_name = json_name(field.name)
    for nested in message.nested_type:
        fill_in(nested)


def main():
    files = {}
    for name in modules():
        collect(importlib.import_module(name).DESCRIPTOR, files)
    # In no file's imports: used by JSON alone.
    for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"):
        collect(importlib.import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR, files)
    for file in own_files():
        files[file.name] = file
    for file in files.values():
        file.ClearField("source_code_info")
        for message in file.message_type:
            fill_in(message)
    out = HERE / "descriptors.binpb"
    # Deterministic: the same packages give the same bytes.
    out.write_bytes(descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True))
    print(f"{out.name}: {len(files)} files, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

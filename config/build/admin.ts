/** envoy.config.bootstrap.v3.Admin: who may ask for what, and where that is logged. */
import { allowedPaths } from '../../proxy/admin/admin_access.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { AccessLogConfig } from '../../proxy/telemetry/access_log_config.ts';
import { buildAccessLogs } from './access_log.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

const FILE_LOG = 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog';

/** Loggers of the admin interface. @throws {ConfigError} for what is not executed of it. */
export function buildAdminLogs(json: unknown): AccessLogConfig[] {
  const admin = new Fields(json ?? {}, 'admin');
  if (admin.list('socket_options').length > 0) {
    admin.fail('socket_options', 'options of sockets by number are not supported');
  }
  allowedPaths(admin);
  const address = admin.message('address');
  refuseUnexecuted(address?.message('socket_address'), 'SocketAddress');
  refuseUnexecuted(address?.message('pipe'), 'Pipe');
  if (address?.has('envoy_internal_address') === true) address.fail('envoy_internal_address', 'is not supported');
  const path = admin.string('access_log_path') ?? '';
  const list = admin.list('access_log');
  const old = path === '' ? [] : [{ name: 'admin', typed_config: { '@type': FILE_LOG, path } }];
  const logs = buildAccessLogs(list.length > 0 ? list : old, 'admin.access_log');
  const other = logs.findIndex(({ kind }) => kind !== 'file');
  if (other >= 0) admin.fail(`access_log[${other}]`, 'the admin interface logs to files, stdout and stderr');
  return logs;
}

/**
 * A pod in a network namespace with its rules written, and what is outside.
 *
 *   outside 10.77.0.1, fd77::1 ── veth ── pod 10.77.0.2, fd77::2: application (uid 1000), pillion (uid 1337)
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NamespaceProcess, NetNamespace } from './net_namespace.ts';
import { pillion, root } from './pillion_process.ts';
import type { Scope } from './scope.ts';

/** Users. */
export const PROXY = 1337;
export const APP = 1000;
/** test/support/namespace_peer.ts */
export const PEER = join(root, 'test/support/namespace_peer.ts');

/** A pod and what is outside, its rules written. */
export function network(scope: Scope): { outside: NetNamespace; pod: NetNamespace } {
  const made = veth(scope);
  made.pod.run([pillion, 'capture'], { cwd: root });
  return made;
}

/** A pod and what is outside, no rules yet. */
export function veth(scope: Scope): { outside: NetNamespace; pod: NetNamespace } {
  const [outside, pod] = [new NetNamespace(scope, 'out'), new NetNamespace(scope, 'pod')];
  outside.run(['ip', 'link', 'add', 'left', 'type', 'veth', 'peer', 'name', 'right', 'netns', pod.name]);
  for (const [where, link, host] of [
    [outside, 'left', 1],
    [pod, 'right', 2],
  ] as const) {
    where.run(['ip', 'addr', 'add', `10.77.0.${host}/24`, 'dev', link]);
    where.run(['ip', '-6', 'addr', 'add', `fd77::${host}/64`, 'dev', link, 'nodad']);
    where.run(['ip', 'link', 'set', link, 'up']);
  }
  // Virtual IPs have to lead somewhere before they are redirected.
  pod.run(['ip', 'route', 'add', 'default', 'via', '10.77.0.1']);
  return { outside, pod };
}

/** `pillion run` beside the pod's application, when its listeners are open. */
export async function startProxy(
  scope: Scope,
  pod: NetNamespace,
  file: string,
  text: string,
  flags: readonly string[],
  capabilities: readonly string[] = [],
): Promise<NamespaceProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-net-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, file), text);
  pod.run(['chmod', '-R', 'a+rX', folder]);
  const parameters = [pillion, 'run', '-c', join(folder, file), '--concurrency', '1', ...flags];
  const proxy = pod.start(parameters, { id: PROXY, cwd: root, capabilities });
  await proxy.until(/virtualInbound listens on/);
  return proxy;
}

/** A server that says its name first. */
export const serve = (where: NetNamespace, ip: string, port: number, name: string, id?: number): Promise<unknown> =>
  where
    .start([process.execPath, PEER, 'serve', ip, String(port), name], id === undefined ? {} : { id })
    .until(/serving/);

/** What a client under the application's user hears. */
export async function ask(where: NetNamespace, ip: string, port: number, line?: string): Promise<string> {
  const more = line === undefined ? [] : [line];
  const asked = where.start([process.execPath, PEER, 'ask', ip, String(port), ...more], { id: APP });
  await asked.until(/\n$/);
  return asked.output;
}

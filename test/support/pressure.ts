/** Pressure that a test sets: resource monitors that read a file each, for Pillion's and Envoy's overload managers. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Json } from '../../config/resources.ts';
import type { Scope } from './scope.ts';

const INJECTED = 'type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig';

export class Pressure {
  readonly #folder = mkdtempSync(join(tmpdir(), 'pillion-overload-'));
  /** For `resource_monitors`. */
  readonly monitors: Json[];

  constructor(scope: Scope, names: readonly string[] = ['pressure']) {
    scope.after(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.monitors = names.map((name) => ({
      name,
      typed_config: { '@type': INJECTED, filename: join(this.#folder, name) },
    }));
    for (const name of names) this.set(0, name);
  }

  /** 0 to 1. Envoy looks when a file takes the place of another. */
  set(value: number, name = 'pressure'): void {
    const next = join(this.#folder, `${name}.next`);
    writeFileSync(next, String(value));
    renameSync(next, join(this.#folder, name));
  }
}

/** Takes a source's secrets as the control thread does: checked, the last good one kept. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { inspectResource } from '../../config/build/check.ts';
import type { ConfigSink, Json, ResourceChange, UpdateResult } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';

export interface HeldIdentity {
  readonly chain: string;
  readonly key: string;
  readonly roots: string;
}

export class SecretSink implements ConfigSink {
  readonly secrets = new Map<string, Json>();
  readonly rejections: string[] = [];
  readonly removed: string[] = [];
  readonly counts = new Map<string, number>();
  #woken: () => void = () => {};
  readonly statistics: ConfigSink['statistics'] = {
    counter: (name) => {
      const add = (count: number): void => void this.counts.set(name, (this.counts.get(name) ?? 0) + count);
      return { inc: () => add(1), add };
    },
    gauge: () => ({ set() {} }),
    text() {},
  };

  update(change: ResourceChange): UpdateResult {
    const rejected: UpdateResult['rejected'][number][] = [];
    for (const resource of change.upserts) {
      const found = inspectResource(resource);
      if (found instanceof ConfigError) {
        rejected.push({ type: resource.type, name: resource.name, reason: found.message });
        this.rejections.push(found.message);
      } else this.secrets.set(resource.name, resource.json);
    }
    for (const { name } of change.removed) this.removed.push(name);
    this.#woken();
    return { accepted: [], rejected };
  }

  unreadable(reasons: readonly string[]): void {
    this.rejections.push(...reasons);
  }

  check(resource: Parameters<ConfigSink['check']>[0]): string | undefined {
    const found = inspectResource(resource);
    return found instanceof ConfigError ? found.message : undefined;
  }

  claimAddresses(): Promise<ReadonlyMap<string, string>> {
    return Promise.resolve(new Map());
  }

  refused({ reason }: { readonly reason: string }): void {
    this.rejections.push(reason);
  }

  runtimeLayer(): void {}

  initialized(): void {}

  whenWarmed(callback: () => void): void {
    callback();
  }

  /** Waits until `ready`, asked after every update. */
  async until<T>(ready: () => T | undefined): Promise<T> {
    for (;;) {
      const found = ready();
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#woken = resolve;
      });
    }
  }

  /** `default` and `ROOTCA`, once both are there and another than `before`. */
  identity(before?: HeldIdentity): Promise<HeldIdentity> {
    return this.until(() => {
      const pair = this.secrets.get('default')?.['tls_certificate'] as Json | undefined;
      const validation = this.secrets.get('ROOTCA')?.['validation_context'] as Json | undefined;
      if (pair === undefined || validation === undefined) return undefined;
      const held = {
        chain: textOf(pair['certificate_chain']),
        key: textOf(pair['private_key']),
        roots: textOf(validation['trusted_ca']),
      };
      return held.chain === before?.chain ? undefined : held;
    });
  }
}

function textOf(source: unknown): string {
  const { inline_string: text, inline_bytes: bytes } = source as { inline_string?: string; inline_bytes?: string };
  return text ?? Buffer.from(bytes ?? '', 'base64').toString('latin1');
}

export function keyFits({ chain, key }: HeldIdentity): boolean {
  return new X509Certificate(chain).checkPrivateKey(createPrivateKey(key));
}

/** Envoy's counters of TLS, below `listener.<name>.ssl.` and `cluster.<name>.ssl.`. */
import type { Counter, Statistics } from '../../telemetry/statistics.ts';
import type { StapleAction } from './ocsp_staple.ts';
import type { TlsInfo } from '../connection_info.ts';
import type { VerificationFailure } from './peer_verification.ts';

export class TlsStatistics {
  readonly handshake: Counter;
  readonly sessionReused: Counter;
  readonly noCertificate: Counter;
  readonly connectionError: Counter;
  /** Secrets have changed: contexts were made anew. */
  readonly contextUpdates: Counter;
  /** Connections refused because a secret was not there. */
  readonly secretsNotReady: Counter;
  readonly #stapleRequests: Counter;
  readonly #staples: Readonly<Record<StapleAction, Counter>>;
  readonly #failed: Readonly<Record<VerificationFailure['kind'], Counter>>;
  readonly #statistics: Statistics;
  readonly #prefix: string;
  /** Ciphers, groups and versions are what we offer: few. */
  readonly #named = new Map<string, Counter>();

  /** @param side `server` for listeners. */
  constructor(statistics: Statistics, prefix: string, side: 'client' | 'server') {
    const counter = (name: string): Counter => statistics.counter(`${prefix}.${name}`);
    const factory = `${side}_ssl_socket_factory`;
    this.#statistics = statistics;
    this.#prefix = `${prefix}.ssl`;
    this.handshake = counter('ssl.handshake');
    this.sessionReused = counter('ssl.session_reused');
    this.noCertificate = counter('ssl.no_certificate');
    this.connectionError = counter('ssl.connection_error');
    this.contextUpdates = counter(`${factory}.ssl_context_update_by_sds`);
    this.secretsNotReady = counter(`${factory}.${side === 'server' ? 'down' : 'up'}stream_context_secrets_not_ready`);
    this.#stapleRequests = counter('ssl.ocsp_staple_requests');
    this.#staples = {
      staple: counter('ssl.ocsp_staple_responses'),
      omit: counter('ssl.ocsp_staple_omitted'),
      fail: counter('ssl.ocsp_staple_failed'),
    };
    this.#failed = {
      error: counter('ssl.fail_verify_error'),
      san: counter('ssl.fail_verify_san'),
      cert_hash: counter('ssl.fail_verify_cert_hash'),
      no_cert: counter('ssl.fail_verify_no_cert'),
    };
  }

  /** A client has asked for an OCSP response. */
  stapled(action: StapleAction): void {
    this.#stapleRequests.inc();
    this.#staples[action].inc();
  }

  failed({ kind }: VerificationFailure): void {
    this.#failed[kind].inc();
  }

  /** A handshake is through, and the peer is accepted. */
  done({ version, cipher, group }: TlsInfo, reused: boolean, peerShown: boolean): void {
    this.handshake.inc();
    if (reused) this.sessionReused.inc();
    if (!peerShown) this.noCertificate.inc();
    this.#of(`versions.${version}`).inc();
    this.#of(`ciphers.${cipher}`).inc();
    if (group !== '') this.#of(`curves.${group}`).inc();
  }

  /** A context was made. Seconds since 1970, as every thread says alike. */
  expires(expiries: readonly { readonly name: string; readonly atMs: number }[]): void {
    for (const { name, atMs } of expiries) {
      const statistic = `${this.#prefix}.certificate.${name}.expiration_unix_time_seconds`;
      this.#statistics.gauge(statistic).set(Math.floor(atMs / 1000) || 0);
    }
  }

  #of(name: string): Counter {
    let counter = this.#named.get(name);
    if (counter === undefined) {
      counter = this.#statistics.counter(`${this.#prefix}.${name}`);
      this.#named.set(name, counter);
    }
    return counter;
  }
}

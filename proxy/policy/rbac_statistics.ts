/** Envoy's counters below `rbac.`: allowed, denied, shadow_allowed, shadow_denied, and per policy where asked for. */
import type { Counter } from '../telemetry/statistics.ts';
import type { RbacRules } from './rbac.ts';

interface Pair {
  readonly allowed: Counter;
  readonly denied: Counter;
}

export class RbacStatistics {
  readonly #enforced: Pair;
  readonly #shadow: Pair;
  readonly #enforcedRules = new Map<string, Pair>();
  readonly #shadowRules = new Map<string, Pair>();

  /** `counter` makes names relative to the filter's own prefix. */
  constructor(rules: RbacRules, rulesPrefix: string, perRule: boolean, counter: (name: string) => Counter) {
    const pair = (prefix: string): Pair => ({
      allowed: counter(`${prefix}allowed`),
      denied: counter(`${prefix}denied`),
    });
    this.#enforced = pair(rulesPrefix);
    this.#shadow = pair(`${rules.shadowPrefix}shadow_`);
    if (!perRule) return;
    for (const policy of rules.enforced?.policies ?? []) {
      this.#enforcedRules.set(policy, pair(`${rulesPrefix}policy.${policy}.`));
    }
    for (const policy of rules.shadow?.policies ?? []) {
      this.#shadowRules.set(policy, pair(`${rules.shadowPrefix}policy.${policy}.shadow_`));
    }
  }

  enforced(allowed: boolean, policy: string | undefined): void {
    count(this.#enforced, allowed);
    if (policy !== undefined) count(this.#enforcedRules.get(policy), allowed);
  }

  shadow(allowed: boolean, policy: string | undefined): void {
    count(this.#shadow, allowed);
    if (policy !== undefined) count(this.#shadowRules.get(policy), allowed);
  }
}

function count(pair: Pair | undefined, allowed: boolean): void {
  if (pair !== undefined) (allowed ? pair.allowed : pair.denied).inc();
}

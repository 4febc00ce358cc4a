/** ProxyConfig (networking.istio.io): how a workload's proxy is started. Source: istio/api networking/v1beta1/proxy_config.proto. */
import type { KubeObject } from '../kube_object.ts';
import { type At, anything, fail, integer, looseText, mapOf, message, openMessage, text, within } from './shape.ts';
import { selects } from './model.ts';

const PROXY_CONFIG = openMessage({
  spec: message({
    selector: message({ matchLabels: mapOf(looseText) }),
    concurrency: integer(0, 2 ** 31 - 1),
    environmentVariables: mapOf(looseText),
    image: message({ imageType: text }),
  }),
  status: anything,
});

export interface ProxyConfig {
  readonly namespace: string;
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** Data threads; 0 is one a core, undefined the CPU limit. */
  readonly concurrency: number | undefined;
  readonly environment: ReadonlyMap<string, string>;
  readonly object: KubeObject;
}

/** @throws {ConfigError} */
export function parseProxyConfig(object: KubeObject, at: At): ProxyConfig {
  const { spec } = PROXY_CONFIG(object.json, at);
  const labels = spec?.selector?.matchLabels;
  for (const name of labels?.keys() ?? []) {
    if (name === '' && spec !== undefined) fail(within(spec.at, 'selector', 'matchLabels'), 'a label needs a name');
  }
  return {
    namespace: object.namespace,
    selector: labels === undefined || labels.size === 0 ? undefined : labels,
    concurrency: spec?.concurrency,
    environment: spec?.environmentVariables ?? new Map(),
    object,
  };
}

/** What holds for a workload: field by field, its own over its namespace's over the root namespace's. `all` oldest first. */
export function proxyConfigFor(
  all: readonly ProxyConfig[],
  namespace: string,
  labels: Readonly<Record<string, string>>,
  rootNamespace: string,
): Pick<ProxyConfig, 'concurrency' | 'environment'> {
  const levels = [
    all.find((item) => item.namespace === rootNamespace && item.selector === undefined),
    all.find((item) => item.namespace === namespace && item.selector === undefined),
    all.find((item) => item.namespace === namespace && item.selector !== undefined && selects(item.selector, labels)),
  ].filter((item) => item !== undefined);
  return {
    concurrency: levels.findLast((item) => item.concurrency !== undefined)?.concurrency,
    environment: new Map(levels.flatMap((item) => [...item.environment])),
  };
}

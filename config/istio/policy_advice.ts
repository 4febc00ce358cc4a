/** What security policies do that their authors may not expect (attacks.md rows 49 and 51), in sentences with the place. */
import type { AuthorizationPolicy, AuthorizationRule } from './authorization_policy.ts';
import type { CompileContext } from './context.ts';
import { inboundPorts } from './inbound_ports.ts';
import { isHttpOrSniffed } from './protocol.ts';
import { holdsFor } from './workload_selector.ts';

/** Of the policies that hold for the proxy's own workload. */
export function policyAdvice(context: CompileContext): string[] {
  const { client, mesh, registry } = context;
  const policies = registry.authorizationPolicies.filter(({ object, spec }) =>
    holdsFor(object, spec, client, mesh.rootNamespace),
  );
  return [
    ...httpRulesOnTcp(context, policies),
    ...unaskedOnTcp(context, policies),
    ...tokensNobodyAsksFor(context, policies),
  ];
}

/** '' where the workload has none. */
function tcpPorts(context: CompileContext): string {
  const ports = inboundPorts(context)
    .filter(({ protocol }) => !isHttpOrSniffed(protocol))
    .map(({ number }) => number);
  return ports.length === 0 ? '' : `TCP port${ports.length > 1 ? 's' : ''} ${ports.join(', ')}`;
}

/** As in Istio: an authorizer that speaks HTTP cannot be asked about bytes. */
function unaskedOnTcp(context: CompileContext, policies: readonly AuthorizationPolicy[]): string[] {
  const where = tcpPorts(context);
  if (where === '') return [];
  const speakHttp = new Set(
    context.mesh.authorizers.filter(({ envoyExtAuthzHttp }) => envoyExtAuthzHttp !== undefined).map(({ name }) => name),
  );
  return policies
    .filter(({ action, provider }) => action === 'CUSTOM' && speakHttp.has(provider))
    .map(
      ({ object, provider }) =>
        `${object.source.locate(['metadata', 'name'])}: AuthorizationPolicy "${object.name}" is not asked about on ${where}: ` +
        `its provider "${provider}" speaks HTTP; one with envoyExtAuthzGrpc is asked.`,
    );
}

function httpRulesOnTcp(context: CompileContext, policies: readonly AuthorizationPolicy[]): string[] {
  const where = tcpPorts(context);
  if (where === '') return [];
  return policies.flatMap(({ object, rules, action }) => {
    if (!rules.some(asksForHttp)) return [];
    const place = object.source.locate(['metadata', 'name']);
    const effect =
      action === 'ALLOW'
        ? 'a rule that asks for HTTP never allows a connection'
        : 'what a rule asks of HTTP is passed over, so that it holds for more connections';
    return [`${place}: AuthorizationPolicy "${object.name}" asks for HTTP; on ${where} ${effect}.`];
  });
}

function asksForHttp(rule: AuthorizationRule): boolean {
  const operations = (rule.to ?? []).some(({ operation }) =>
    (['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'] as const).some(
      (name) => operation?.[name] !== undefined,
    ),
  );
  return (
    operations || asksForToken(rule) || (rule.when ?? []).some(({ key }) => key?.startsWith('request.headers') === true)
  );
}

function asksForToken(rule: AuthorizationRule): boolean {
  return (
    (rule.from ?? []).some(
      ({ source }) => source?.requestPrincipals !== undefined || source?.notRequestPrincipals !== undefined,
    ) || (rule.when ?? []).some(({ key }) => key?.startsWith('request.auth.') === true)
  );
}

/** Istio lets requests without a token pass: who wants one required has to say so. */
function tokensNobodyAsksFor(context: CompileContext, policies: readonly AuthorizationPolicy[]): string[] {
  const { client, mesh, registry } = context;
  if (policies.some(({ rules }) => rules.some(asksForToken))) return [];
  return registry.requestAuthentications
    .filter(
      ({ object, spec }) =>
        holdsFor(object, spec, client, mesh.rootNamespace) &&
        (spec.jwtRules ?? []).length > 0 &&
        (spec.jwtRules ?? []).every((rule) => rule.presence !== 'REQUIRED'),
    )
    .map(
      ({ object }) =>
        `${object.source.locate(['metadata', 'name'])}: RequestAuthentication "${object.name}" lets requests without a token pass; ` +
        'an AuthorizationPolicy with requestPrincipals: ["*"] asks for one.',
    );
}

/** `pillion capture`: the rules, and that a real iptables takes them once however often they are written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { captureOptions } from '../../cli/capture_flags.ts';
import { natRules } from '../../cli/capture_rules.ts';
import { mangleRules } from '../../cli/capture_transparent.ts';
import { CommandError } from '../../cli/exit_codes.ts';
import { NetNamespace, skipWithoutNetNamespaces } from '../support/net_namespace.ts';
import { pillion, root, runPillion } from '../support/pillion_process.ts';

test("capture writes Istio's rules in Istio's order when nothing is said", () => {
  assert.deepEqual(natRules(captureOptions({}), 'v4'), [
    '-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001',
    '-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006',
    '-A PREROUTING -p tcp -j ISTIO_INBOUND',
    '-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT',
    '-A OUTPUT -j ISTIO_OUTPUT',
    '-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN',
    '-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT',
    '-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT',
    '-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN',
    '-A ISTIO_OUTPUT -j ISTIO_REDIRECT',
  ]);
});

test("capture writes Istio's mangle rules in TPROXY mode, and leaves what has a client's address alone", () => {
  const options = captureOptions({ annotation: ['sidecar.istio.io/interceptionMode=TPROXY'] });
  const own = (rule: string): string => rule.replace(' -m comment --comment pillion', '');
  assert.deepEqual(mangleRules(options, 'v6').map(own), [
    '-A ISTIO_DIVERT -j MARK --set-mark 1337',
    '-A ISTIO_DIVERT -j ACCEPT',
    '-A ISTIO_TPROXY ! -d ::1/128 -p tcp -j TPROXY --tproxy-mark 1337/0xffffffff --on-port 15006',
    '-A PREROUTING -p tcp -j ISTIO_INBOUND',
    '-A ISTIO_INBOUND -p tcp -m mark --mark 1337 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -s ::6/128 -i lo -j RETURN',
    '-A ISTIO_INBOUND -p tcp -i lo -m mark ! --mark 1338 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT',
    '-A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY',
    '-A PREROUTING -p tcp -m mark --mark 1337 -j CONNMARK --save-mark',
    '-A OUTPUT -p tcp -o lo -m mark --mark 1337 -j RETURN',
    '-A OUTPUT ! -d ::1/128 -p tcp -o lo -m owner --uid-owner 1337 -j MARK --set-mark 1338',
    '-A OUTPUT ! -d ::1/128 -p tcp -o lo -m owner --gid-owner 1337 -j MARK --set-mark 1338',
    '-A OUTPUT -p tcp -m connmark --mark 1337 -j CONNMARK --restore-mark',
  ]);
  const nat = natRules(options, 'v4');
  assert.ok(!nat.some((rule) => rule.includes('ISTIO_INBOUND')));
  assert.ok(
    nat.indexOf('-A ISTIO_OUTPUT -p tcp -m mark --mark 1337 -j RETURN') <
      nat.findIndex((rule) => rule.includes('uid-owner')),
  );
  assert.deepEqual(mangleRules(captureOptions({}), 'v4'), []);
});

const lists = (values: Record<string, string | string[] | boolean>, family: 'v4' | 'v6' = 'v4'): string =>
  natRules(captureOptions(values), family).join('\n');

for (const [says, values, has, hasNot] of [
  [
    'only some inbound ports are captured',
    { istioInboundPorts: '80,8080' },
    /--dport 80 -j ISTIO_IN_REDIRECT\n.*--dport 8080 -j ISTIO_IN_REDIRECT/,
    /-p tcp -j ISTIO_IN_REDIRECT/,
  ],
  ['no inbound port is captured', { istioInboundPorts: '' }, /ISTIO_OUTPUT/, /ISTIO_INBOUND/],
  [
    'an inbound port is excluded',
    { istioLocalExcludePorts: '9999' },
    /--dport 9999 -j RETURN\n.*--dport 15020 -j RETURN/,
    /x/,
  ],
  [
    'ranges are captured',
    { istioServiceCidr: '10.0.0.0/8' },
    /-d 10\.0\.0\.0\/8 -j ISTIO_REDIRECT$/,
    /ISTIO_OUTPUT -j ISTIO_REDIRECT/,
  ],
  [
    'ranges are excluded',
    { istioServiceExcludeCidr: '10.1.1.1' },
    /-d 10\.1\.1\.1\/32 -j RETURN\n-A ISTIO_OUTPUT -j ISTIO_REDIRECT/,
    /x/,
  ],
  [
    'a port is excluded by annotation',
    { annotation: ['traffic.sidecar.istio.io/excludeOutboundPorts=25,465'] },
    /OUTPUT\n-A ISTIO_OUTPUT -p tcp --dport 25 -j RETURN\n-A ISTIO_OUTPUT -p tcp --dport 465 -j RETURN\n/,
    /x/,
  ],
  [
    'a flag is stronger than its annotation',
    { annotation: ['traffic.sidecar.istio.io/includeInboundPorts='], istioInboundPorts: '80' },
    /--dport 80 -j ISTIO_IN_REDIRECT/,
    /x/,
  ],
  [
    'interfaces are left alone',
    { istioExcludeInterfaces: 'eth1' },
    /^-A PREROUTING -i eth1 .*-j RETURN\n-A OUTPUT -o eth1 .*-j RETURN\n/,
    /x/,
  ],
  [
    'all queries are captured',
    { captureAllDns: true },
    /multiport ! --dports 53,15008[\s\S]*ISTIO_OUTPUT -p tcp --dport 53 -j REDIRECT --to-ports 15053[\s\S]*OUTPUT -p udp --dport 53 .*--to-port 15053/,
    /x/,
  ],
  [
    'virtual machines are behind it',
    { kubeVirtInterfaces: 'net1' },
    /-I PREROUTING 1 -i net1 .*-j RETURN\n-I PREROUTING 1 -i net1 -p tcp -j ISTIO_REDIRECT/,
    /x/,
  ],
] as const) {
  test(`capture writes what is asked for when ${says}`, () => {
    assert.match(lists(values as never), has);
    if (hasNot.source !== 'x') assert.doesNotMatch(lists(values as never), hasNot);
  });
}

test('capture keeps to ranges of its family when it writes IPv6 rules', () => {
  const rules = lists({ istioServiceCidr: '10.0.0.0/8,fd00::/8' }, 'v6');
  assert.match(rules, /-d fd00::\/8 -j ISTIO_REDIRECT/);
  assert.match(rules, /-o lo -s ::6\/128 -j RETURN/);
  assert.doesNotMatch(rules, /10\.0\.0\.0/);
});

for (const [says, values, complaint] of [
  ['a port is none', { istioLocalExcludePorts: '80,http' }, /--istio-local-exclude-ports wants ports, got "http"/],
  [
    'a range is none',
    { istioServiceCidr: '10.0.0.0/33' },
    /--istio-service-cidr wants ranges such as 10\.0\.0\.0\/8, or \*, got "10\.0\.0\.0\/33"/,
  ],
  ['nobody is the proxy', { proxyUid: '' }, /--proxy-uid wants a number/],
  ['the mode is none there is', { istioInboundInterceptionMode: 'TPROXI' }, /wants REDIRECT or TPROXY, got "TPROXI"/],
  ['an interface would be more than a name', { istioExcludeInterfaces: 'eth0 -j DROP' }, /wants interface names/],
  ['an annotation is unknown', { annotation: ['a/b=c'] }, /"a\/b" changes nothing that is captured/],
] as const) {
  test(`capture refuses with a sentence when ${says}`, () => {
    assert.throws(
      () => captureOptions(values as never),
      (error: Error) => {
        assert.ok(error instanceof CommandError);
        assert.match(error.message, complaint);
        return true;
      },
    );
  });
}

test('capture writes, shows and removes rules in a real network namespace, once however often', {
  skip: skipWithoutNetNamespaces,
}, (t) => {
  const pod = new NetNamespace(t, 'rules');
  pod.run(['iptables', '-t', 'nat', '-A', 'OUTPUT', '-p', 'udp', '-j', 'RETURN']);
  const before = pod.run(['iptables', '-t', 'nat', '-S']);
  const capture = (...flags: string[]): string => pod.run([pillion, 'capture', ...flags], { cwd: root });
  capture('--redirect-dns', '--istio-exclude-interfaces', 'eth9');
  const first = pod.run(['iptables', '-t', 'nat', '-S']);
  capture('--redirect-dns', '--istio-exclude-interfaces', 'eth9');
  assert.equal(pod.run(['iptables', '-t', 'nat', '-S']), first);
  assert.match(capture('--show'), /iptables: -A ISTIO_OUTPUT -j ISTIO_REDIRECT/);
  capture('-d', '81');
  const other = pod.run(['iptables', '-t', 'nat', '-S']);
  assert.match(other, /--dport 81 -j RETURN/);
  assert.doesNotMatch(other, /eth9|15053/);
  capture('--remove');
  assert.equal(pod.run(['iptables', '-t', 'nat', '-S']), before);
  assert.equal(capture('--show'), '');
  assert.match(capture('--dry-run'), /^iptables -t nat -A ISTIO_REDIRECT/);
  assert.equal(pod.run(['iptables', '-t', 'nat', '-S']), before);
});

test('run refuses --intercept together with what is for machines without', async (t) => {
  const ended = await runPillion(t, ['run', '-c', '-', '--intercept', '--inbound', '127.0.0.1:0=80']);
  assert.equal(ended.code, 2);
  assert.match(ended.stderr, /--intercept and --inbound exclude each other/);
});

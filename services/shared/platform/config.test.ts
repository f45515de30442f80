import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ConfigError, type Environment, loadConfig } from './config.ts';
import type { Module, SettingsTable } from './module.ts';
import type { Peer } from './peers.ts';
import { didYouMean, environmentName, formatBytes, formatMs, parseValue } from './setting-values.ts';

const table: SettingsTable = {
  'dimse.port': { type: 'integer', default: 11112, min: 0, max: 65_535, doc: '' },
  'dimse.aeTitle': { type: 'string', default: 'GANTRY', env: 'GANTRY_AE_TITLE', doc: '' },
  'dimse.acceptUnknown': { type: 'boolean', default: false, doc: '', reload: true },
  'dimse.idleMs': { type: 'ms', default: '1h', min: 1, doc: '', reload: true },
  'store.size': { type: 'bytes', default: 1, min: 1, max: 2 ** 40, doc: '' },
  'store.names': { type: 'list', default: [], doc: '' },
  'store.kind': { type: 'enum', values: ['a', 'b'], default: 'a', doc: '' },
  'store.file': { type: 'path', default: '', doc: '' },
};
const module: Module = {
  name: 'm',
  settings: table,
  check: (settings) =>
    settings.string('store.kind') === 'b' && settings.number('store.size') < 10
      ? ['store.kind b needs store.size of 10 or more']
      : [],
  start: async () => ({ stop: async () => {} }),
};

function within(
  yaml: string | undefined,
  run: (load: (environment?: Environment) => ReturnType<typeof loadConfig>, directory: string) => void,
): void {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-config-'));
  try {
    if (yaml !== undefined) writeFileSync(join(directory, 'gantry.yaml'), yaml);
    run((environment = {}) => loadConfig([module], environment, directory), directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
function problemsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return assert.fail('it was accepted');
}

describe('what may be written', () => {
  test('defaults without a file', () =>
    within(undefined, (load, directory) => {
      const { settings, file } = load();
      assert.equal(file, undefined);
      assert.equal(settings.number('dimse.port'), 11112);
      assert.equal(settings.number('dimse.idleMs'), 3_600_000);
      assert.equal(settings.string('dataDir'), join(directory, 'data'));
    }));

  test('nested or dotted keys, units, lists; the environment wins', () =>
    within(
      'dimse:\n  port: 104\n  idleMs: 5min\ndimse.aeTitle: ARCHIVE\nstore: {size: 16MiB, names: [a, b], file: here.txt}\n',
      (load, directory) => {
        const { settings } = load({
          GANTRY_DIMSE_PORT: '105',
          GANTRY_DIMSE_ACCEPT_UNKNOWN: 'true',
          GANTRY_AE_TITLE: '',
          PATH: '/bin',
        });
        assert.equal(settings.number('dimse.port'), 105);
        assert.equal(settings.number('dimse.idleMs'), 300_000);
        assert.equal(settings.boolean('dimse.acceptUnknown'), true);
        assert.equal(settings.string('dimse.aeTitle'), 'ARCHIVE');
        assert.equal(settings.number('store.size'), 16 * 2 ** 20);
        assert.deepEqual(settings.list('store.names'), ['a', 'b']);
        assert.equal(settings.string('store.file'), join(directory, 'here.txt'));
      },
    ));

  test('an empty file and empty groups are defaults', () => {
    within('', (load) => assert.equal(load().settings.number('dimse.port'), 11112));
    within('# nothing\ndimse:\n', (load) => assert.equal(load().settings.number('dimse.port'), 11112));
  });

  test('GANTRY_CONFIG names the file, else ./gantry.yaml, else the one in the data directory; paths are relative to it', () =>
    within(undefined, (load, directory) => {
      mkdirSync(join(directory, 'data'));
      writeFileSync(join(directory, 'data', 'gantry.yaml'), 'dimse.port: 1\nstore.file: x');
      assert.equal(load().settings.number('dimse.port'), 1);
      assert.equal(load().settings.string('store.file'), join(directory, 'data', 'x'));
      writeFileSync(join(directory, 'gantry.yaml'), 'dimse.port: 2');
      assert.equal(load().settings.number('dimse.port'), 2);
      writeFileSync(join(directory, 'other.yaml'), 'dimse.port: 3');
      assert.equal(load({ GANTRY_CONFIG: 'other.yaml' }).settings.number('dimse.port'), 3);
      assert.match(
        problemsOf(() => load({ GANTRY_CONFIG: 'none.yaml' }))[0],
        /GANTRY_CONFIG names .*none.yaml, which is not there/,
      );
    }));

  test('what Kubernetes puts into the environment for a service named gantry is not for us', () =>
    within(undefined, (load) => {
      const { settings } = load({
        GANTRY_SERVICE_HOST: '10.0.0.1',
        GANTRY_PORT: 'tcp://10.0.0.1:80',
        GANTRY_PORT_80_TCP_ADDR: '10.0.0.1',
        GANTRY_DIMSE_PORT: 'tcp://10.0.0.1:104',
      });
      assert.equal(settings.number('dimse.port'), 11112);
    }));

  test('what the environment tells the scenarios of tools/peers is not for us', () =>
    within(undefined, (load) => assert.doesNotThrow(() => load({ GANTRY_SCENARIO_DIMSE: 'pacs:104' }))));

  test('a setting of a module that another role starts is checked and otherwise let be', () =>
    within('http: {port: 80}', (_load, directory) => {
      const others: SettingsTable = { 'http.port': { type: 'integer', default: 1, doc: '' } };
      assert.doesNotThrow(() => loadConfig([module], {}, directory, [others]));
      assert.match(
        problemsOf(() => loadConfig([module], { GANTRY_HTTP_PORT: 'x' }, directory, [others]))[0],
        /GANTRY_HTTP_PORT: http.port must be a whole number/,
      );
    }));
});

describe('what stops the start', () => {
  test('everything wrong is said at once, each with what to do', () =>
    within(
      'dimse: {prot: 1, port: 70000}\nstore: {kind: c, size: 12 bananas}\nhello: 1\ndimse.acceptUnknown: maybe',
      (load) => {
        const problems = problemsOf(() => load({ GANTRY_DIMSE_IDLE_MS: '-1', GANTRY_DIMSE_PROT: '1' })).map((problem) =>
          problem.replace(/\/\S+gantry.yaml/, 'FILE'),
        );
        assert.deepEqual(problems, [
          'FILE: dimse.prot is not a setting; did you mean dimse.port?',
          'FILE: hello is not a setting (services/SETTINGS.md lists them all)',
          'GANTRY_DIMSE_PROT in the environment is not a setting; did you mean GANTRY_DIMSE_PORT?',
          'FILE: dimse.port is 70000; it must be at most 65535',
          'FILE: dimse.acceptUnknown must be true or false',
          'GANTRY_DIMSE_IDLE_MS: dimse.idleMs must be a time, such as 500ms, 30s, 5min or 1h',
          'FILE: store.size must be a size, such as 16MiB',
          'FILE: store.kind is "c"; it must be one of a, b',
        ]);
      },
    ));

  test('impossible pairs', () =>
    within('store: {kind: b, size: 9}', (load) =>
      assert.deepEqual(problemsOf(load), ['store.kind b needs store.size of 10 or more']),
    ));

  test('the internal doors beyond loopback without a secret', () =>
    within('platform: {grpcPort: 9090, internalHost: 0.0.0.0, endpoints: [storage, "storage=s:1:2"]}', (load) => {
      const problems = problemsOf(load);
      assert.equal(problems.length, 2);
      assert.match(problems[0], /platform.endpoints holds "storage"/);
      assert.match(problems[1], /internalTokenFile/);
    }));

  test('broken YAML, a group that is a value, a key twice, an alias bomb', () => {
    within('a: [1', (load) => assert.match(problemsOf(load)[0], /gantry.yaml, line \d+: not valid YAML/));
    within('- a', (load) => assert.match(problemsOf(load)[0], /must hold settings/));
    within('dimse: 4', (load) => assert.match(problemsOf(load)[0], /dimse is a group of settings, such as dimse.port/));
    within('dimse: {port: 1}\ndimse.port: 2', (load) => assert.match(problemsOf(load)[0], /dimse.port is set twice/));
    const bomb = Array.from(
      { length: 12 },
      (_, n) =>
        `a${n}: &a${n} [${Array(10)
          .fill(n === 0 ? 'x' : `*a${n - 1}`)
          .join(', ')}]`,
    ).join('\n');
    within(bomb, (load) => assert.match(problemsOf(load)[0], /gantry.yaml: .*alias/i));
    within('__proto__: 1\nconstructor: 2', (load) => assert.equal(problemsOf(load).length, 2));
  });
});

describe('peers', () => {
  const load = (yaml: string) => {
    let peers: Peer[] = [];
    within(yaml, (read) => {
      peers = read().settings.value<Peer[]>('peers');
    });
    return peers;
  };
  const refused = (yaml: string) => {
    let problems: string[] = [];
    within(yaml, (read) => {
      problems = problemsOf(read).map((problem) => problem.replace(/^\S+: /, ''));
    });
    return problems;
  };

  test('a title is enough; fields take units', () => {
    const [a, b] = load(
      'peers:\n  - aeTitle: CT1\n  - {aeTitle: " VIEWER ", host: 10.0.0.7, port: 11113, services: [echo, move], pduLengthMax: 64KiB, responseTimeoutMs: 2min, transferSyntaxes: [1.2.840.10008.1.2.1], commitment: same, relationalLenient: true}',
    );
    assert.equal(a.aeTitle, 'CT1');
    assert.deepEqual([a.host, a.port, a.commitment, a.relationalLenient], ['', 104, 'new', false]);
    assert.equal(b.aeTitle, 'VIEWER');
    assert.deepEqual(b.services, ['echo', 'move']);
    assert.deepEqual([b.pduLengthMax, b.responseTimeoutMs, b.commitment], [65_536, 120_000, 'same']);
    a.services.push('x' as never);
    assert.equal(load('peers: [{aeTitle: A}]')[0].services.length, 6);
  });

  test('what is wrong is said for each', () => {
    assert.deepEqual(
      refused(
        'peers:\n  - {host: x}\n  - {aeTitle: "MORE THAN SIXTEEN CHARS", prot: 1}\n  - {aeTitle: "A\\\\B"}\n  - {aeTitle: C, services: [stroe], port: 0}\n  - {aeTitle: C, transferSyntaxes: [jpeg]}\n  - hello',
      ),
      [
        'peers[0] needs aeTitle',
        'peers[1].prot is not a setting; did you mean port?',
        'peers[1].aeTitle must be 1 to 16 characters without backslash, not only spaces',
        'peers[2].aeTitle must be 1 to 16 characters without backslash, not only spaces',
        'peers[3].port is 0; it must be at least 1',
        'peers[3].services[0] is "stroe"; it must be one of echo, store, find, move, get, commitment',
        'peers[4].transferSyntaxes must hold UIDs (digits and dots, at most 64 characters)',
        'peers[4].aeTitle is "C", which peers[3] already has',
        'peers[5] must be a mapping with at least aeTitle',
      ],
    );
    assert.match(refused('peers: {aeTitle: A}')[0], /peers must be a list/);
    within(undefined, (read) =>
      assert.match(problemsOf(() => read({ GANTRY_PEERS: 'A' }))[0], /only be written in gantry.yaml/),
    );
  });
});

describe('what cannot be together', () => {
  const doors: Module = {
    name: 'doors',
    settings: {
      'http.port': { type: 'integer', default: 8080, min: 0, max: 65_535, doc: '' },
      'http.host': { type: 'string', default: 'localhost', doc: '' },
      'dimse.port': { type: 'integer', default: 11112, min: 0, max: 65_535, doc: '' },
      'dimse.host': { type: 'string', default: '127.0.0.1,::1', doc: '' },
    },
    start: async () => ({ stop: async () => {} }),
  };
  const load = (environment: Environment, needs: string[] = []) =>
    loadConfig([doors], environment, mkdtempSync(join(tmpdir(), 'gantry-config-')), [], needs);

  test('two doors on one port of one address: a sentence that names both and how to say another', () => {
    const [problem, ...more] = problemsOf(() => load({ GANTRY_HTTP_PORT: '9000', GANTRY_DIMSE_PORT: '9000' }));
    assert.match(problem, /^http\.port and dimse\.port are both 9000: .*GANTRY_HTTP_PORT or GANTRY_DIMSE_PORT/);
    assert.deepEqual(more, []);
    const internal = { GANTRY_PLATFORM_GRPC_PORT: '9090', GANTRY_PLATFORM_BULK_PORT: '9090' };
    assert.match(problemsOf(() => load(internal)).join(), /platform\.grpcPort and platform\.bulkPort are both 9090/);
    assert.match(
      problemsOf(() => load({ GANTRY_PLATFORM_HEALTH_PORT: '11112', GANTRY_PLATFORM_HEALTH_HOST: '0.0.0.0' })).join(),
      /dimse\.port and platform\.healthPort/,
    );
  });

  test('one port on addresses that do not meet, and ports that the kernel chooses, are no such pair', () => {
    load({ GANTRY_HTTP_PORT: '0', GANTRY_DIMSE_PORT: '0' });
    load({ GANTRY_HTTP_PORT: '9000', GANTRY_DIMSE_PORT: '9000', GANTRY_DIMSE_HOST: '192.0.2.1' });
  });

  test('a role that needs others and is not told where they are: the missing names and an example that can be copied', () => {
    const given = 'auth=a:1:2,gateway=g:1:2';
    const [problem] = problemsOf(() =>
      load({ GANTRY_PLATFORM_ENDPOINTS: given }, ['auth', 'index', 'storage', 'gateway.dimse']),
    );
    assert.match(problem, /find index, storage, which this role needs/);
    const [, example] = /such as (\S+)/.exec(problem)!;
    load({ GANTRY_PLATFORM_ENDPOINTS: `${given},${example}` }, ['auth', 'index', 'storage', 'gateway.dimse']);
  });
});

describe('SIGHUP', () => {
  test('rows with reload change and their readers are told; the rest asks for a restart; a bad file changes nothing', () =>
    within('dimse: {acceptUnknown: false, port: 1}', (load, directory) => {
      const config = load();
      let told = 0;
      config.settings.onChange(() => told++);
      writeFileSync(join(directory, 'gantry.yaml'), 'dimse: {acceptUnknown: true, port: 2}\npeers: [{aeTitle: NEW}]');
      assert.deepEqual(config.reload(), { changed: ['peers', 'dimse.acceptUnknown'], needRestart: ['dimse.port'] });
      assert.equal(config.settings.boolean('dimse.acceptUnknown'), true);
      assert.equal(config.settings.number('dimse.port'), 1);
      assert.equal(config.settings.value<Peer[]>('peers')[0].aeTitle, 'NEW');
      assert.equal(told, 1);
      writeFileSync(join(directory, 'gantry.yaml'), 'dimse: {acceptUnknown: nonsense}');
      assert.throws(() => config.reload(), ConfigError);
      assert.equal(config.settings.boolean('dimse.acceptUnknown'), true);
      assert.equal(told, 1);
    }));
});

describe('values', () => {
  test('names of the environment', () => {
    const row = table['dimse.port'];
    assert.equal(environmentName('dimse.acceptUnknown', row), 'GANTRY_DIMSE_ACCEPT_UNKNOWN');
    assert.equal(environmentName('platform.rpcTimeoutMs', row), 'GANTRY_PLATFORM_RPC_TIMEOUT_MS');
    assert.equal(environmentName('dataDir', row), 'GANTRY_DATA_DIR');
  });

  test('what is formatted is read back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 45 }), (n) => {
        assert.deepEqual(parseValue('k', { type: 'bytes' }, formatBytes(n)), { value: n });
        assert.deepEqual(parseValue('k', { type: 'ms' }, formatMs(n)), { value: n });
      }),
    );
  });

  test('anything at all gives a value of the type or a sentence', () => {
    const types = ['string', 'integer', 'boolean', 'bytes', 'ms', 'list', 'path', 'enum', 'peers'] as const;
    fc.assert(
      fc.property(fc.constantFrom(...types), fc.anything(), (type, raw) => {
        const parsed = parseValue('k', { type }, raw);
        assert.ok('value' in parsed || parsed.problem.length > 0);
      }),
    );
  });

  test('did you mean: near names only', () => {
    assert.equal(didYouMean('dimse.acceptUnkown', Object.keys(table)), 'dimse.acceptUnknown');
    assert.equal(didYouMean('AETITLE', ['aeTitle']), 'aeTitle');
    assert.equal(didYouMean('something.else', Object.keys(table)), undefined);
  });
});

import assert from 'node:assert/strict';
import http from 'node:http';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { AuthService, Principal } from '#proto/auth/v1/auth.ts';
import { systemCall } from './call.ts';
import { callHeaders, readCall, readError, sameSecret } from './call-headers.ts';
import { parseEndpoint } from './endpoints.ts';
import { GantryError } from './errors.ts';
import { BULK } from './routes.ts';
import { Services } from './rpc.ts';
import { defaultsOf, LiveSettings } from './setting-values.ts';
import { platformSettings } from './settings.ts';
import { type InternalDoors, openInternalDoors, remotes } from './wire.ts';

const SECRET = 'a shared secret of some length';
const call = systemCall('main', 'test');

describe('doors between processes', () => {
  const settings = new LiveSettings(
    platformSettings,
    defaultsOf(platformSettings).set('platform.bulkHeaderMax', 10_000),
  );
  const services = new Services(
    { codec: false, timeoutMs: () => 5_000 },
    { method: () => undefined, bulk: () => undefined },
  );
  let doors: InternalDoors;
  let served = 0;
  before(async () => {
    doors = await openInternalDoors(services, settings, SECRET, { grpc: 0, bulk: 0 });
    services.serve(AuthService, {
      authenticate: async () => ({ principal: undefined }),
      authorize: async () => {
        served++;
        return { allowed: true, reason: '' };
      },
    });
    services.serveBulk(BULK.read, async () => {
      served++;
      return { response: { length: 1 } };
    });
  });
  after(() => doors.close());
  const client = (secret: string) => {
    const remote = remotes(
      () => ({
        name: 'there',
        places: [{ host: '127.0.0.1', grpcPort: doors.grpcPort, bulkPort: doors.bulkPort }],
      }),
      settings,
      secret,
    );
    return { there: new Services({ codec: false, timeoutMs: () => 5_000 }, remote, true), close: () => remote.close() };
  };
  const ask = { principal: undefined, action: '', resource: '' };

  test('who does not show the secret is nobody, by either door', async () => {
    for (const secret of ['', 'wrong', `${SECRET}x`]) {
      const { there, close } = client(secret);
      try {
        const before = served;
        await assert.rejects(there.client(AuthService).authorize(call, ask), { code: 'unauthenticated' });
        await assert.rejects(there.bulk(BULK.read)(call, { places: [] }), { code: 'unauthenticated' });
        assert.equal(served, before);
      } finally {
        close();
      }
    }
    const { there, close } = client(SECRET);
    try {
      assert.equal((await there.client(AuthService).authorize(call, ask)).allowed, true);
      assert.equal((await there.bulk(BULK.read)(call, { places: [] })).response.length, 1);
    } finally {
      close();
    }
  });

  test('a process that is not there is unavailable', async () => {
    const { there, close } = (() => {
      const impatient = new LiveSettings(platformSettings, defaultsOf(platformSettings).set('platform.connectMs', 200));
      const places = [{ host: '127.0.0.1', grpcPort: 1, bulkPort: 1 }];
      const remote = remotes(() => ({ name: 'there', places }), impatient, '');
      return { there: new Services({ codec: false, timeoutMs: () => 5_000 }, remote), close: () => remote.close() };
    })();
    try {
      await assert.rejects(there.client(AuthService).authorize(call, ask), { code: 'unavailable' });
      await assert.rejects(there.bulk(BULK.read)(call, { places: [] }, [Buffer.alloc(10)]), { code: 'unavailable' });
    } finally {
      close();
    }
  });

  test('broken requests are refused and the door stays open', async () => {
    const post = (path: string, headers: Record<string, string>, body: Buffer) =>
      new Promise<string>((resolve, reject) => {
        const request = http.request(
          { port: doors.bulkPort, host: '127.0.0.1', method: 'POST', path, headers, agent: false },
          (response) => {
            response.resume();
            response.on('end', () => resolve(`${response.statusCode} ${response.headers['gantry-code']}`));
          },
        );
        request.on('error', reject);
        request.end(body);
      });
    const good = callHeaders(call, SECRET);
    const frame = (length: number, rest = '') =>
      Buffer.concat([
        Buffer.from([(length >>> 24) & 255, (length >>> 16) & 255, (length >>> 8) & 255, length & 255]),
        Buffer.from(rest),
      ]);
    assert.equal(await post('/bulk/storage.read', good, Buffer.alloc(0)), '400 invalid-argument');
    assert.equal(await post('/bulk/storage.read', good, frame(5, 'abc')), '400 invalid-argument');
    assert.equal(await post('/bulk/storage.read', good, frame(0xffffffff)), '413 too-large');
    assert.equal(await post('/bulk/storage.read', good, frame(3, '\x0a\x7fx')), '500 internal');
    assert.equal(await post('/bulk/storage.nothing', good, frame(0)), '501 unimplemented');
    assert.equal(await post('/bulk/../etc', good, frame(0)), '501 unimplemented');
    assert.equal(
      await post('/bulk/storage.read', { authorization: good.authorization }, frame(0)),
      '400 invalid-argument',
    );
    assert.equal(
      await post('/bulk/storage.read', { ...good, 'gantry-tenant': '%zz' }, frame(0)),
      '400 invalid-argument',
    );
    await new Promise<void>((resolve) =>
      connect(doors.bulkPort, '127.0.0.1')
        .on('close', () => resolve())
        .resume()
        .end('nonsense\r\n\r\n'),
    );
    await new Promise<void>((resolve) =>
      connect(doors.grpcPort, '127.0.0.1')
        .on('close', () => resolve())
        .resume()
        .end('nonsense\r\n\r\n'),
    );
    assert.equal(await post('/bulk/storage.read', good, frame(0)), '200 undefined');
  });
});

test('places of other processes', () => {
  assert.deepEqual(parseEndpoint('storage.keeper=keeper-0.svc:9090:9091'), {
    name: 'storage.keeper',
    places: [{ host: 'keeper-0.svc', grpcPort: 9090, bulkPort: 9091 }],
  });
  assert.deepEqual(parseEndpoint('index=[fd00::1]:1:2|10.0.0.1:3:4'), {
    name: 'index',
    places: [
      { host: 'fd00::1', grpcPort: 1, bulkPort: 2 },
      { host: '10.0.0.1', grpcPort: 3, bulkPort: 4 },
    ],
  });
  for (const wrong of ['', 'index', 'index=host', 'index=host:1', 'index=host:1:x', '=host:1:2', 'index=ho st:1:2'])
    assert.equal(parseEndpoint(wrong), undefined, wrong);
  for (const wrong of ['index=a:1:2|', 'index=|a:1:2', 'index=a:1:2|b:1', 'index=a:1:70000'])
    assert.equal(parseEndpoint(wrong), undefined, wrong);
});

test('a call survives its headers, and any headers give a call or a refusal', () => {
  const text = fc.string({ unit: 'binary' });
  fc.assert(
    fc.property(text, text, fc.array(text), fc.string({ unit: 'grapheme' }), (tenant, id, roles, requestId) => {
      fc.pre(tenant !== '' && [tenant, id, requestId, ...roles].every((one) => one.isWellFormed()));
      const headers = callHeaders({ ...call, tenant, requestId, principal: { id, kind: 'k', roles, tenant } }, '');
      for (const value of Object.values(headers)) assert.match(value, /^[\x20-\x7e]*$/);
      const read = readCall((name) => headers[name], '', call.signal);
      assert.deepEqual(
        [read.tenant, read.requestId, read.principal],
        [tenant, requestId, Principal.fromPartial({ id, kind: 'k', roles, tenant })],
      );
    }),
  );
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.constantFrom(
          'gantry-tenant',
          'gantry-principal',
          'gantry-request-id',
          'gantry-timeout-ms',
          'gantry-code',
          'gantry-message',
          'gantry-offending-elements',
        ),
        fc.string(),
      ),
      (headers) => {
        try {
          readCall((name) => headers[name], '', call.signal);
        } catch (error) {
          assert.ok(error instanceof GantryError);
        }
        readError((name) => headers[name]);
      },
    ),
  );
});

test('secrets are compared whole', () => {
  assert.equal(sameSecret('a', 'a'), true);
  for (const wrong of ['', 'b', 'aa']) assert.equal(sameSecret(wrong, 'a'), false);
});

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addressMatcher, type Connection, type PeerRules, peerOf } from './peer.ts';

const RULES: PeerRules = { publicUrl: '', trusted: () => false, hosts: [], listening: 'localhost' };
const BEHIND: PeerRules = { ...RULES, trusted: addressMatcher(['10.0.0.0/8', '::1']), hosts: ['pacs.example'] };

const from = (headers: Connection['headers'], remoteAddress = '192.0.2.9'): Connection => ({
  remoteAddress,
  localAddress: '::ffff:192.0.2.1',
  localPort: 8080,
  httpVersion: '1.1',
  headers,
});

describe('who is at the other end', () => {
  test('what a stranger says of a proxy is not believed', () => {
    const forwarded = {
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'evil.example',
      'x-forwarded-for': '1.2.3.4',
    };
    assert.deepEqual(peerOf(from({ host: 'localhost:8080', ...forwarded }), BEHIND), {
      address: '192.0.2.9',
      origin: 'http://localhost:8080',
    });
  });

  test('a trusted proxy names the client, the host and the scheme', () => {
    for (const proxy of ['10.1.2.3', '::ffff:10.1.2.3', '::1']) {
      const headers = {
        host: 'gantry:8080',
        'x-forwarded-host': 'pacs.example',
        'x-forwarded-proto': 'https',
        // Whoever made up the first two was not believed by the proxies after them.
        'x-forwarded-for': '9.9.9.9, 198.51.100.7, 10.0.0.2',
      };
      assert.deepEqual(peerOf(from(headers, proxy), BEHIND), {
        address: '198.51.100.7',
        origin: 'https://pacs.example',
      });
    }
    assert.equal(
      peerOf(from({ host: 'localhost', 'x-forwarded-for': 'nonsense' }, '10.0.0.1'), BEHIND).address,
      '10.0.0.1',
    );
    assert.throws(() => peerOf(from({ host: 'localhost', 'x-forwarded-host': 'evil.example' }, '10.0.0.1'), BEHIND), {
      code: 'permission-denied',
    });
  });

  test('http.publicUrl is every origin, and its name is ours', () => {
    const rules = { ...RULES, publicUrl: 'https://pacs.example/' };
    assert.equal(peerOf(from({ host: 'pacs.example' }), rules).origin, 'https://pacs.example');
    assert.equal(peerOf(from({ host: 'localhost:8080' }), rules).origin, 'https://pacs.example');
    assert.throws(() => peerOf(from({ host: 'evil.example' }), rules), { code: 'permission-denied' });
  });

  test('a Host that names this socket and forgets the port gets it; any other is left alone', () => {
    const origin = (host: string, rules = { ...RULES, listening: '0.0.0.0', hosts: ['pacs.example'] }) =>
      peerOf(from({ host }), rules).origin;
    assert.equal(origin('localhost'), 'http://localhost:8080');
    assert.equal(origin('127.0.0.1'), 'http://127.0.0.1:8080');
    assert.equal(origin('[::1]'), 'http://[::1]:8080');
    assert.equal(origin('192.0.2.1'), 'http://192.0.2.1:8080');
    assert.equal(origin('pacs.example'), 'http://pacs.example');
    assert.equal(origin('localhost:1234'), 'http://localhost:1234');
    assert.equal(origin('[::1]:1234'), 'http://[::1]:1234');
  });

  test('foreign names, and what is no name, are refused; addresses only where we listen beyond loopback', () => {
    for (const host of ['evil.example', '192.0.2.1', 'localhost.evil.example'])
      assert.throws(() => peerOf(from({ host }), RULES), { code: 'permission-denied' });
    for (const host of ['a"b', '<x>', 'a b', 'a/b'])
      assert.throws(() => peerOf(from({ host }), { ...RULES, hosts: ['*'] }), { code: 'invalid-argument' });
    assert.equal(
      peerOf(from({ host: '192.0.2.1:80' }), { ...RULES, listening: '0.0.0.0' }).origin,
      'http://192.0.2.1:80',
    );
  });

  test('http.trustedProxies: addresses and networks, nothing else', () => {
    const trusted = addressMatcher(['10.0.0.0/8', '192.0.2.7', 'fd00::/8']);
    assert.deepEqual(['10.9.9.9', '192.0.2.7', '192.0.2.8', 'fd12::1', '::ffff:10.0.0.1', '', 'x'].map(trusted), [
      true,
      true,
      false,
      true,
      true,
      false,
      false,
    ]);
    for (const bad of ['proxy', '10.0.0.0/33', '10.0.0.0/x', '']) assert.throws(() => addressMatcher([bad]), /no IP/);
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostPort, isLoopback, listenHosts } from './net.ts';

test('loopback is what only this machine can reach', () => {
  for (const host of [
    '127.0.0.1',
    '127.8.9.1',
    '::1',
    '[::1]',
    '0:0:0:0:0:0:0:1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    'localhost',
    'LOCALHOST',
    ' 127.0.0.1 ',
    '::1%lo',
  ])
    assert.equal(isLoopback(host), true, host);
  for (const host of [
    '0.0.0.0',
    '::',
    '',
    '10.0.0.1',
    '128.0.0.1',
    '::2',
    'fe80::1',
    '::ffff:10.0.0.1',
    'localhost.evil.org',
    '127.0.0.1.evil.org',
    '0177.0.0.1',
    '2130706433',
    'archive',
  ])
    assert.equal(isLoopback(host), false, host);
});

test('addresses for people', () => {
  assert.equal(hostPort('::1', 80), '[::1]:80');
  assert.equal(hostPort('10.0.0.1', 80), '10.0.0.1:80');
  assert.deepEqual(listenHosts('127.0.0.1, ::1,'), ['127.0.0.1', '::1']);
});

import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { type AuthenticateRequest, AuthService } from '#proto/auth/v1/auth.ts';
import { authModule } from './module.ts';
import { openTokens, parseTokens } from './tokens.ts';

const TOKEN = 'a-token-of-some-length';
const OTHER = '0123456789abcdef0123456789abcdef';
const LOCAL = '127.0.0.1';
const REMOTE = '10.1.2.3';

const bearer = (value: string, address = REMOTE): AuthenticateRequest => ({
  evidence: { $case: 'bearerToken', value },
  address,
});
const anonymous = (address: string): AuthenticateRequest => ({
  evidence: { $case: 'anonymous', value: { door: 'http' } },
  address,
});
const ae = (callingAeTitle: string, address: string): AuthenticateRequest => ({
  evidence: { $case: 'ae', value: { callingAeTitle, calledAeTitle: 'GANTRY' } },
  address,
});

function withTokenFile<T>(content: string, run: (file: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-auth-'));
  const file = join(directory, 'tokens');
  writeFileSync(file, content);
  return run(file).finally(() => rmSync(directory, { recursive: true }));
}

for (const overGrpc of [false, true])
  describe(overGrpc ? 'auth over gRPC' : 'auth direct', () => {
    const withAuth = async (
      settings: Record<string, unknown>,
      run: (ask: (request: AuthenticateRequest) => Promise<string>, context: TestContext) => Promise<void>,
    ) => {
      const context = await createTestContext({ modules: [authModule], settings, overGrpc });
      const auth = context.client(AuthService);
      try {
        await run(async (request) => {
          const { principal } = await auth.authenticate(context.call(), request);
          return `${principal?.kind} ${principal?.id} ${principal?.roles} ${principal?.tenant}`;
        }, context);
      } finally {
        await context.stop();
      }
    };
    const refused = { code: 'unauthenticated' };

    test('without anything configured, this machine is served and nobody else', () =>
      withAuth({}, async (ask) => {
        assert.equal(await ask(anonymous(LOCAL)), 'anonymous anonymous user main');
        assert.equal(await ask(anonymous('::ffff:127.0.0.1')), 'anonymous anonymous user main');
        await assert.rejects(ask(anonymous(REMOTE)), refused);
        await assert.rejects(ask(anonymous('')), refused);
        await assert.rejects(ask(bearer(TOKEN)), refused);
        await assert.rejects(ask({ evidence: undefined, address: LOCAL }), refused);
      }));

    test('http.allowUnauthenticated serves everybody', () =>
      withAuth({ 'http.allowUnauthenticated': true }, async (ask) => {
        assert.equal(await ask(anonymous(REMOTE)), 'anonymous anonymous user main');
      }));

    test('with http.tokenFile a token is needed, on this machine too', () =>
      withTokenFile(`# tokens\n${TOKEN}  the viewer\r\n\n${OTHER}\n`, (file) =>
        withAuth({ 'http.tokenFile': file }, async (ask) => {
          assert.equal(await ask(bearer(TOKEN)), 'token the viewer user main');
          assert.match(await ask(bearer(OTHER)), /^token token-[0-9a-f]{8} user main$/);
          for (const wrong of [
            '',
            TOKEN.slice(1),
            `${TOKEN} `,
            TOKEN.toUpperCase(),
            `${TOKEN}  the viewer`,
            '#',
            '# tokens',
          ])
            await assert.rejects(ask(bearer(wrong)), refused, wrong);
          await assert.rejects(ask(anonymous(LOCAL)), refused);
        }),
      ));

    test('AE titles: peers, dimse.acceptUnknown, this machine', () =>
      withAuth({ peers: [{ aeTitle: 'CT1' }] }, async (ask, context) => {
        assert.equal(await ask(ae('CT1', REMOTE)), 'ae CT1 peer main');
        assert.equal(await ask(ae(' CT1  ', REMOTE)), 'ae CT1 peer main');
        assert.equal(await ask(ae('NEW', LOCAL)), 'ae NEW unknown-peer main');
        await assert.rejects(ask(ae('ct1', REMOTE)), refused);
        await assert.rejects(ask(ae('NEW', REMOTE)), refused);
        context.change({ 'dimse.acceptUnknown': true });
        assert.equal(await ask(ae('NEW', REMOTE)), 'ae NEW unknown-peer main');
        context.change({ 'dimse.acceptUnknown': false, peers: [{ aeTitle: 'NEW' }] });
        assert.equal(await ask(ae('NEW', REMOTE)), 'ae NEW peer main');
        await assert.rejects(ask(ae('CT1', REMOTE)), refused);
      }));

    test('authorize: by role and door; the system always; nobody never', () =>
      withAuth({}, async (_ask, context) => {
        const auth = context.client(AuthService);
        const may = async (roles: string[], action: string) =>
          (
            await auth.authorize(context.call(), {
              principal: { id: 'x', kind: 'x', roles, tenant: 'main' },
              action,
              resource: '',
            })
          ).allowed;
        assert.equal(await may(['system'], 'anything.at-all'), true);
        assert.equal(await may(['user'], 'http.qido.studies'), true);
        assert.equal(await may(['user'], 'api.purge'), true);
        assert.equal(await may(['peer'], 'dimse.c-store'), true);
        assert.equal(await may(['peer'], 'http.delete'), false);
        assert.equal(await may(['user'], 'dimse.c-store'), false);
        assert.equal(await may([], 'http.qido.studies'), false);
        assert.equal(await may(['constructor', '__proto__'], 'http.x'), false);
        assert.equal(await may(['user'], ''), false);
        assert.equal(
          (await auth.authorize(context.call(), { principal: undefined, action: 'http.x', resource: '' })).allowed,
          false,
        );
      }));
  });

describe('token files', () => {
  const silent = { info() {}, error() {} } as never;

  test('what is wrong stops the start with a sentence', async () => {
    const message = (content: string, max = 10) => {
      try {
        parseTokens(content, 'F', max);
      } catch (error) {
        return (error as Error).message;
      }
      return assert.fail('accepted');
    };
    assert.match(message('# nothing\n'), /F holds no token/);
    assert.match(message('\nshort'), /F, line 2: a token has at least 16 characters/);
    assert.match(message('with"quotes"in-it-and-long'), /line 1: a token is made of/);
    assert.ok(!message('secret\nshort').includes('secret'));
    assert.match(message(`${TOKEN}\n${OTHER}`, 1), /auth.tokensMax allows 1/);
    await assert.rejects(
      openTokens('/nowhere/tokens', () => 10, silent),
      { code: 'failed-precondition', message: /cannot be read \(ENOENT\)/ },
    );
  });

  test('a changed file is read again; a broken one leaves the old tokens in force', () =>
    withTokenFile(`${TOKEN} one\n`, async (file) => {
      let clock = 0;
      const tokens = await openTokens(
        file,
        () => 10,
        silent,
        () => clock,
      );
      assert.equal(await tokens.find(TOKEN), 'one');
      appendFileSync(file, `${OTHER} two\n`);
      assert.equal(await tokens.find(OTHER), undefined, 'the file is looked at once a second');
      clock += 1_000;
      assert.equal(await tokens.find(OTHER), 'two');
      writeFileSync(file, 'broken');
      clock += 1_000;
      assert.equal(await tokens.find(OTHER), 'two');
      rmSync(file);
      clock += 1_000;
      assert.equal(await tokens.find(OTHER), 'two');
      writeFileSync(file, `${OTHER} three`);
      clock += 1_000;
      assert.equal(await tokens.find(OTHER), 'three');
      assert.equal(await tokens.find(TOKEN), undefined);
    }));
});

// Every use case leaves a record in the audit trail (PS3.15 §A.5): every HTTP route and DIMSE service is listed, called, and looked for there.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { globSync, readdirSync, readFileSync } from 'node:fs';
import { connect as tcp } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { encodeDataSet } from '#dicom/write.ts';
import { listen } from '#dimse/acceptor.ts';
import { negotiate } from '#dimse/negotiate.ts';
import { connect } from '#dimse/requestor.ts';
import { echo, find, get, move, nAction, store } from '#dimse/scu.ts';
import type { Acceptor, Association } from '#dimse/types.ts';
import { createTestContext } from '#platform/testing.ts';
import {
  MODELS,
  SERVICES,
  STORAGE_COMMITMENT,
  STORAGE_COMMITMENT_INSTANCE,
  VERIFICATION,
} from '../../services/gateway/dimse/services.ts';
import { httpDoor, type RegisteredRoute } from '../../services/gateway/http/module.ts';
import { httpSettings } from '../../services/gateway/http/settings.ts';
import { sampleRows } from '../demo/samples.ts';
import { readTestFile, type TestFile } from './files.ts';
import { type GantryServer, startServer } from './server.ts';

/** Pages and probes that touch nobody's data. Whoever adds one says so here. */
const EXEMPT = [/^\/$/, /^\/healthz$/, /^\/readyz$/, /^\/metrics$/, /^\/viewer(\/.*)?$/, /^\/api\/v1\/openapi\.json$/];

/** What is wrong with a route, if anything is. */
function unaudited({ method, url, useCase }: RegisteredRoute): string | undefined {
  const exempt = EXEMPT.some((pattern) => pattern.test(url));
  if (exempt)
    return useCase === null || useCase === undefined
      ? undefined
      : `${method} ${url} is exempt, and audited as ${useCase}`;
  return useCase ? undefined : `${method} ${url} has no useCase: it leaves no audit record`;
}

interface Line {
  time: string;
  event: string;
  action: string;
  outcome: number;
  useCase: string;
  site: string;
  tenant: string;
  requestId: string;
  actor: { id: string; kind: string; roles: string[]; requestor: boolean };
  source?: { address?: string };
  objects: { type: string; id: string }[];
}

const EXPLICIT = '1.2.840.10008.1.2.1';
const STUDY_ROOT = MODELS.find(({ name }) => name === 'study-root')!;
const FOUND_MS = 10_000;
const TRANSACTION = '2.25.20260101';

describe('the audit trail', { timeout: 240_000 }, () => {
  let server: GantryServer;
  let receiver: Acceptor;
  let sample: TestFile;
  let routes: RegisteredRoute[];

  const lines = (): Line[] => {
    const folder = join(server.dataDir, 'state/audit');
    return readdirSync(folder)
      .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line);
  };
  /** The trail is written a moment after the answer. */
  async function recorded(wanted: (line: Line) => boolean): Promise<Line[]> {
    for (const until = Date.now() + FOUND_MS; ; await new Promise((resolve) => setTimeout(resolve, 20))) {
      const found = lines().filter(wanted);
      if (found.length > 0 || Date.now() > until) return found;
    }
  }

  before(async () => {
    sample = readTestFile((await sampleRows())[0]!);
    receiver = await listen({
      host: '127.0.0.1',
      port: 0,
      onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true }),
      onAssociation: async (association) => {
        for await (const incoming of association.messages()) await association.respond(incoming, { status: 0 });
      },
    });
    server = await startServer({ yaml: `peers:\n  - {aeTitle: AUDITED, host: 127.0.0.1, port: ${receiver.port}}\n` });
    const context = await createTestContext({ tables: [httpSettings] });
    const door = await httpDoor(context);
    ({ registered: routes } = door);
    await door.app.close();
    await context.stop();
  });
  after(async () => {
    await server?.close();
    await receiver?.close(0);
  });

  test('every HTTP route names its use case, or is a page or probe of the list', () => {
    assert.ok(routes.length > 60, `${routes.length} routes: were all seen?`);
    assert.deepEqual(
      routes.map(unaudited).filter((one) => one !== undefined),
      [],
    );
    // A check proves that it looks: a planted route without a use case, and one that is null though not on the list.
    for (const useCase of [null, undefined]) assert.ok(unaudited({ method: 'GET', url: '/planted', useCase }));
    assert.ok(unaudited({ method: 'GET', url: '/healthz/secret', useCase: null }));
  });

  const associate = (
    abstractSyntax: string,
    roles: { sopClassUid: string; scu: boolean; scp: boolean }[] = [],
    more: string[] = [],
  ) =>
    connect({
      host: '127.0.0.1',
      port: server.dimsePort,
      callingAeTitle: 'AUDITED',
      calledAeTitle: 'GANTRY',
      contexts: [abstractSyntax, ...more].map((one) => ({
        abstractSyntax: one,
        transferSyntaxes: [one === sample.sopClassUid ? sample.transferSyntaxUid : EXPLICIT],
      })),
      roles,
    });
  const identifier = (level: string) =>
    encodeDataSet(
      { '00080052': { vr: 'CS', Value: [level] }, '0020000D': { vr: 'UI', Value: [sample.studyInstanceUid] } },
      { transferSyntaxUid: EXPLICIT },
    );
  async function drain(responses: AsyncIterable<{ status: number }>): Promise<number> {
    let status = -1;
    for await (const response of responses) ({ status } = response);
    return status;
  }

  /** One call of each service: the association that makes it, and the final status. */
  const CALLS: Record<string, () => Promise<[Association, number]>> = {
    'dimse.c-echo': async () => {
      const association = await associate(VERIFICATION);
      return [association, (await echo(association)).status];
    },
    'dimse.c-store': async () => {
      const association = await associate(sample.sopClassUid);
      const contextId = association.findContext(sample.sopClassUid)!.id;
      const { sopClassUid, sopInstanceUid, dataSet: data } = sample;
      return [association, (await store(association, { contextId, sopClassUid, sopInstanceUid, data })).status];
    },
    'dimse.c-find': async () => {
      const association = await associate(STUDY_ROOT.find);
      return [association, await drain(find(association, STUDY_ROOT.find, identifier('STUDY')))];
    },
    'dimse.c-move': async () => {
      const association = await associate(STUDY_ROOT.move);
      return [association, await drain(move(association, STUDY_ROOT.move, 'AUDITED', identifier('STUDY')))];
    },
    'dimse.c-get': async () => {
      const association = await associate(
        STUDY_ROOT.get,
        [{ sopClassUid: sample.sopClassUid, scu: false, scp: true }],
        [sample.sopClassUid],
      );
      const status = await drain(
        get(association, STUDY_ROOT.get, identifier('STUDY'), async (incoming) => {
          await incoming.data?.discard();
          return 0;
        }),
      );
      return [association, status];
    },
    'dimse.n-action.storage-commitment': async () => {
      const association = await associate(STORAGE_COMMITMENT);
      const data = encodeDataSet(
        {
          '00081195': { vr: 'UI', Value: [TRANSACTION] },
          '00081199': {
            vr: 'SQ',
            Value: [
              {
                '00081150': { vr: 'UI', Value: [sample.sopClassUid] },
                '00081155': { vr: 'UI', Value: [sample.sopInstanceUid] },
              },
            ],
          },
        },
        { transferSyntaxUid: EXPLICIT },
      );
      const { status } = await nAction(association, {
        sopClassUid: STORAGE_COMMITMENT,
        sopInstanceUid: STORAGE_COMMITMENT_INSTANCE,
        actionTypeId: 1,
        data,
      });
      return [association, status];
    },
  };

  test('every DIMSE service is called here', () => {
    assert.deepEqual(Object.keys(CALLS).sort(), SERVICES.map(({ useCase }) => useCase).sort());
  });

  for (const { useCase, name } of [...SERVICES].sort(
    (a, b) => Number(b.commandField === 1) - Number(a.commandField === 1),
  )) {
    test(`${name}: a record of who did what, from where, to what`, async () => {
      const [association, status] = await CALLS[useCase]!();
      assert.equal(status, 0);
      await association.release();
      const [line] = await recorded((one) => one.useCase === useCase);
      assert.ok(line, `no record of ${useCase}`);
      whole(line);
      assert.equal(line.actor.id, 'AUDITED');
      assert.equal(line.outcome, 0);
      assert.equal(line.source?.address, '127.0.0.1');
      if (useCase !== 'dimse.c-echo' && useCase !== 'dimse.c-find')
        assert.ok(
          line.objects.some(({ id }) => [sample.studyInstanceUid, sample.sopInstanceUid, TRANSACTION].includes(id)),
          JSON.stringify(line.objects),
        );
    });
  }

  /** What is recorded though nobody called a route or a service: how to bring it about. The keeper's removals: keeper.test.ts. */
  const BESIDES: Record<string, () => Promise<unknown>> = {
    'process.start': async () => {},
    'dimse.association-rejected': () =>
      assert.rejects(
        connect({
          host: '127.0.0.1',
          port: server.dimsePort,
          callingAeTitle: 'AUDITED',
          calledAeTitle: 'SOMEBODYELSE',
          contexts: [{ abstractSyntax: VERIFICATION, transferSyntaxes: [EXPLICIT] }],
        }),
      ),
    'dimse.n-event-report.storage-commitment': async () => {}, // the request is made above; its report comes by itself
  };
  const BY_OTHERS = ['process.stop', 'keeper.remove', 'keeper.remove-orphan', 'keeper.thin'];

  test('whatever else is recorded is listed here, and brought about', async () => {
    const root = join(import.meta.dirname, '../..');
    const named = new Set<string>();
    for (const file of globSync('services/**/*.ts', { cwd: root })) {
      if (/\.(test|testing|contract)\.ts$/.test(file)) continue;
      for (const line of readFileSync(join(root, file), 'utf8').split('\n'))
        if (/useCase|audit\(/.test(line))
          for (const [, useCase] of line.matchAll(/'((?:dimse|process|keeper)\.[a-z.-]+)'/g)) named.add(useCase!);
    }
    const known = [...Object.keys(CALLS), ...Object.keys(BESIDES), ...BY_OTHERS];
    assert.deepEqual([...named].sort(), known.sort());
    for (const [useCase, bringAbout] of Object.entries(BESIDES)) {
      await bringAbout();
      const [line] = await recorded((one) => one.useCase === useCase);
      assert.ok(line, `no record of ${useCase}`);
      whole(line);
      assert.equal(line.outcome, useCase.endsWith('rejected') ? 4 : 0, useCase);
    }
  });

  test('every HTTP route: its record has the id of the answer and the outcome of its status', async () => {
    const audited = routes.filter((route) => route.useCase);
    // Deletions last: what they would delete is asked for before.
    const order = ({ method, url }: RegisteredRoute) =>
      method === 'DELETE' || /trash|reclaim|compact/.test(url) ? 1 : 0;
    const asked: { route: RegisteredRoute; id: string; status: number }[] = [];
    for (const route of audited.toSorted((a, b) => order(a) - order(b))) {
      const response = await fetch(`${server.origin}${pathOf(route)}`, {
        method: route.method,
        headers: { accept: '*/*', ...(route.method === 'POST' ? { 'content-type': 'application/json' } : {}) },
        ...(route.method === 'POST' ? { body: '{}' } : {}),
      });
      await response.arrayBuffer();
      asked.push({ route, id: response.headers.get('x-request-id') ?? '', status: response.status });
    }
    const missing: string[] = [];
    for (const { route, id, status } of asked) {
      const found = await recorded((line) => line.requestId === id && line.useCase === route.useCase);
      if (found.length !== 1)
        missing.push(`${route.method} ${route.url} (${status}): ${found.length} records of ${route.useCase}`);
      for (const line of found) {
        whole(line);
        assert.equal(line.outcome, status < 400 ? 0 : status < 500 ? 4 : 8, `${route.method} ${route.url}: ${status}`);
        if (route.url.includes(':study'))
          assert.ok(
            line.objects.some(({ type, id }) => type === 'study' && id === sample.studyInstanceUid),
            `${route.url} names no study`,
          );
      }
    }
    assert.deepEqual(missing, []);
    assert.deepEqual(
      asked.filter(({ status }) => status >= 500).map(({ route, status }) => `${route.method} ${route.url}: ${status}`),
      [],
    );
    // Most of it worked: a run in which everything was refused would prove less.
    assert.ok(asked.filter(({ status }) => status < 400).length > asked.length / 2);
  });

  test('a refusal is recorded too: who may not come in', async () => {
    const response = await fetch(`${server.origin}/dicom-web/studies/1.2.3/series`, {
      method: 'GET',
      headers: { accept: 'image/jpeg' },
    });
    await response.arrayBuffer();
    const [line] = await recorded((one) => one.requestId === response.headers.get('x-request-id'));
    assert.equal(response.status, 406);
    assert.equal(line?.outcome, 4);
  });

  test('a client that hangs up is recorded too: something may have been done', async () => {
    const study = '2.25.4711.1';
    const socket = tcp(server.httpPort, '127.0.0.1');
    socket.write(
      `POST /dicom-web/studies/${study} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/related; type="application/dicom"; boundary=x\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n`,
    );
    await once(socket, 'data'); // 100 Continue: the request has arrived
    socket.destroy();
    const [line] = await recorded((one) => one.useCase === 'http.stow' && one.objects.some(({ id }) => id === study));
    assert.equal(line?.outcome, 4);
  });

  /** The fields that PS3.15 §A.5.2 wants of every message. */
  function whole(line: Line): void {
    assert.ok(Number.isFinite(Date.parse(line.time)), 'EventDateTime');
    assert.ok(line.event !== '' && line.action !== '' && line.site !== '' && line.tenant === 'main');
    assert.ok(line.actor.id !== '' && line.actor.kind !== '' && line.actor.requestor === true);
  }
  function pathOf({ url }: RegisteredRoute): string {
    const values: Record<string, string> = {
      study: sample.studyInstanceUid,
      series: sample.seriesInstanceUid,
      instance: sample.sopInstanceUid,
      frames: '1',
      aeTitle: 'AUDITED',
    };
    const path = url
      .replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(values[name] ?? 'none'))
      .replace(/\*$/, '7FE00010');
    return url === '/wado'
      ? `/wado?requestType=WADO&studyUID=${values.study}&seriesUID=${values.series}&objectUID=${values.instance}&contentType=application/dicom`
      : path;
  }
});

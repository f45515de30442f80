import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { trimUid } from '#dicom/uids.ts';
import type { Context } from '#platform/module.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import { chooseType } from '../accept.ts';
import { parseQidoParameters, type QidoTarget } from '../qido-parameters.ts';
import { vary } from '../vary.ts';
import { takesGzip } from './json.ts';
import { sendXml } from './native-xml.ts';
import { warn } from './respond.ts';
import { rangesOf } from './retrieve.ts';
import { dicomwebRoot } from './root.ts';

const OFFERED = ['application/dicom+json', 'application/json', 'application/dicom+xml'] as const;
const GZIP_ABOVE = 1400; // one packet is one packet, compressed or not

const compressed = promisify(gzip); // not gzipSync: ten thousand rows would hold up everybody else

const OPEN = Buffer.from('[');
const COMMA = Buffer.from(',');
const CLOSE = Buffer.from(']');

/** QIDO-RS (PS3.18 §10.6): all levels and relational forms. */
export function searchRoutes(app: FastifyInstance, context: Context): void {
  const index = context.client(IndexService);
  const { settings } = context;

  const search = (level: QidoTarget['level']) => async (request: FastifyRequest, reply: FastifyReply) => {
    const { type } = chooseType(rangesOf(request), OFFERED, true);
    const params = request.params as { study?: string; series?: string };
    const at = request.url.indexOf('?');
    const query = parseQidoParameters(
      {
        level,
        ...(params.study === undefined ? {} : { studyInstanceUid: trimUid(params.study) }),
        ...(params.series === undefined ? {} : { seriesInstanceUid: trimUid(params.series) }),
      },
      at < 0 ? '' : request.url.slice(at + 1),
      { limitDefault: settings.number('http.searchLimit'), limitMax: settings.number('http.searchLimitMax') },
    );
    for (const text of query.warnings) warn(reply, text);

    const rows: Uint8Array[] = [];
    let count = 0;
    let cursor = '';
    let more = false;
    if (!query.nothing) {
      for await (const row of index.search(request.call, {
        ...query.request,
        retrieveUrlRoot: dicomwebRoot(request),
        joined: type !== 'application/dicom+xml',
      })) {
        rows.push(row.dataSetJson);
        count += Math.max(1, row.rows); // an index of the release before does not join
        cursor = row.cursor;
        more = row.more;
      }
    }
    if (more) {
      if (query.cutWarning !== '') warn(reply, query.cutWarning);
      if (cursor !== '') reply.header('X-Next-Cursor', cursor);
    }
    request.auditObjects.push({ type: 'query', id: `${level} ${count}` });
    reply.header('Cache-Control', 'no-cache');
    vary(reply, 'Accept', 'Accept-Encoding');
    if (rows.length === 0 && settings.string('http.qidoNoMatch') === '204') return reply.code(204).send();
    if (type === 'application/dicom+xml') return sendXml(reply, rows);
    const body = Buffer.concat([OPEN, ...rows.flatMap((row, i) => (i === 0 ? [row] : [COMMA, row])), CLOSE]);
    reply.header('Content-Type', type);
    if (body.length <= GZIP_ABOVE || !takesGzip(request)) return reply.send(body);
    return reply.header('Content-Encoding', 'gzip').send(await compressed(body, { level: 1 }));
  };

  for (const [name, level, paths] of [
    ['studies', 'STUDY', ['/studies']],
    ['series', 'SERIES', ['/series', '/studies/:study/series']],
    ['instances', 'IMAGE', ['/instances', '/studies/:study/instances', '/studies/:study/series/:series/instances']],
  ] as const) {
    for (const path of paths)
      app.get(path, { config: { useCase: `http.qido.${name}`, event: 'Query', action: 'E' } }, search(level));
  }
}

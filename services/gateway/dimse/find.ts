import type { JsonDataSet } from '#dicom/json.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { STATUS } from '#dimse/status.ts';
import { GantryError } from '#platform/errors.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import { parseFindIdentifier } from './find-identifier.ts';
import { readIdentifier } from './identifier.ts';
import { granted } from './policy.ts';
import { modelOf } from './services.ts';
import { audit, failure, type Handler, writerKey } from './session.ts';

/** C-FIND (PS3.4 §C.4.1): the index matches, this writes each row as an identifier in a character set that is true to it. */
export const find: Handler = async (session, incoming) => {
  const { association, call, door, peer } = session;
  const { settings } = door.context;
  let rows = 0;
  let status: number = STATUS.PROCESSING_FAILURE;
  try {
    const identifier = await readIdentifier(session, incoming);
    const query = parseFindIdentifier(identifier, {
      model: modelOf(incoming.abstractSyntax)!.name,
      relational: granted(association, incoming.abstractSyntax, 0) || peer?.relationalLenient === true,
      dateTime: granted(association, incoming.abstractSyntax, 1),
      fuzzy: granted(association, incoming.abstractSyntax, 2),
      timezone: granted(association, incoming.abstractSyntax, 3),
      emptyValue: granted(association, incoming.abstractSyntax, 5),
      multipleValue: granted(association, incoming.abstractSyntax, 6),
      aeTitle: settings.string('dimse.aeTitle'),
      ...(peer?.responseCharset ? { responseCharset: peer.responseCharset } : {}),
    });
    await door.written.settle(call, writerKey(session));
    const max = settings.number('dimse.findRowsMax');
    const signal = AbortSignal.any([call.signal, incoming.cancelSignal]);
    let cursor = '';
    for (let more = true; more; ) {
      more = false;
      for await (const row of door.context
        .client(IndexService)
        .search({ ...call, signal }, { ...query.request, cursor })) {
        if (incoming.cancelSignal.aborted) break;
        if (++rows > max) throw new GantryError('too-broad', `more than ${max} matches: ask for less`);
        const { model, charset } = query.answer(row.dataSetJson);
        const data = encodeDataSet(model as JsonDataSet, { transferSyntaxUid: incoming.transferSyntax, charset });
        await association.respond(incoming, { status: query.pendingStatus }, data);
        cursor = row.cursor;
        more = row.more; // the index gives a page at a time; a C-FIND has all of them
      }
    }
    status = incoming.cancelSignal.aborted ? STATUS.CANCEL : STATUS.SUCCESS;
    await association.respond(incoming, { status });
  } catch (error) {
    if (incoming.cancelSignal.aborted && !association.signal.aborted) {
      status = STATUS.CANCEL;
      await association.respond(incoming, { status });
    } else {
      // PS3.4 Table C.4-1: A700 out of resources, A900 identifier does not match SOP class, Cxxx unable to process.
      const answer = failure(session, error, (code) =>
        code === 'invalid-argument'
          ? STATUS.DATA_SET_MISMATCH
          : code === 'too-broad' || code === 'too-large' || code === 'unavailable'
            ? STATUS.OUT_OF_RESOURCES
            : STATUS.CANNOT_UNDERSTAND,
      );
      status = answer.status;
      await association.respond(incoming, answer);
    }
  } finally {
    audit(session, {
      event: 'Query',
      action: 'E',
      outcome: status === STATUS.SUCCESS ? 0 : status === STATUS.CANCEL ? 4 : 8,
      useCase: 'dimse.c-find',
      objects: [{ type: 'query', id: `${modelOf(incoming.abstractSyntax)!.name} ${rows}` }],
    });
  }
};

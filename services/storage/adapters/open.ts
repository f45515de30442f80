import type { Context } from '#platform/module.ts';
import { archiveCallbacks } from '../observe.ts';
import type { Archive } from '../ports.ts';
import { archiveOptions, s3Options } from '../settings.ts';
import { openArchive as openOnDisk } from './fs/archive.ts';

/**
 * The one place that chooses: `storage.s3.endpoint` set, the archive is in S3; else it is `<dataDir>/archive`. `waiting` is told what is
 * waited for, and `undefined` when it is over.
 */
export async function openArchive(
  context: Context,
  waiting: (why: string | undefined) => void = () => {},
): Promise<Archive> {
  const { settings, log } = context;
  const callbacks = archiveCallbacks(context);
  if (settings.string('storage.s3.endpoint') === '')
    return openOnDisk(context.dataDir, { ...archiveOptions(settings), ...callbacks });
  const { openS3Archive } = await import('./s3/archive.ts');
  const { s3, archive } = s3Options(settings);
  let waited = false;
  const opened = await openS3Archive(
    { ...s3, onRequest: callbacks.onRequest },
    { ...archive, ...callbacks },
    (error, tries) => {
      waited = true;
      waiting(`the S3 store does not answer (${error.message}): the start waits for it`);
      // The 1st, 2nd, 4th, 8th … time: seconds apart at first, and hours in a night.
      if ((tries & (tries - 1)) === 0)
        log.warn({ tries, reason: error.message }, 'the S3 store does not answer: the start waits for it');
    },
  );
  waiting(undefined);
  if (waited) log.info('the S3 store answers: the start goes on');
  return opened;
}

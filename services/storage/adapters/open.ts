import type { Context } from '#platform/module.ts';
import { archiveCallbacks } from '../observe.ts';
import type { Archive } from '../ports.ts';
import { archiveOptions, s3Options } from '../settings.ts';
import { openArchive as openOnDisk } from './fs/archive.ts';

/** The one place that chooses: `storage.s3.endpoint` set, the archive is in S3; else it is `<dataDir>/archive`. */
export async function openArchive(context: Context): Promise<Archive> {
  const { settings } = context;
  const callbacks = archiveCallbacks(context);
  if (settings.string('storage.s3.endpoint') === '')
    return openOnDisk(context.dataDir, { ...archiveOptions(settings), ...callbacks });
  const { openS3Archive } = await import('./s3/archive.ts');
  const { s3, archive } = s3Options(settings);
  return openS3Archive({ ...s3, onRequest: callbacks.onRequest }, { ...archive, ...callbacks });
}

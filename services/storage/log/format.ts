/** Raised when a release writes what an older one would misread. It lies in the archive itself, so that a copy says what it is. */
export const ARCHIVE_FORMAT = 1;

export const formatJson = (): Buffer =>
  Buffer.from(
    `${JSON.stringify({ format: ARCHIVE_FORMAT, readme: 'Gantry archive. log/: tar files of DICOM instances.' })}\n`,
  );

/** Throws when it is no JSON. */
export const formatOf = (bytes: Buffer): unknown => (JSON.parse(bytes.toString('utf8')) as { format?: unknown }).format;

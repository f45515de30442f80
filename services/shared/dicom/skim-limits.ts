export interface SkimLimits {
  skeletonBytesMax: number;
  elementsMax: number;
  topLevelElementsMax: number;
  sequenceDepthMax: number;
  fragmentsMax: number;
  offsetTableBytesMax: number;
  inflatedBytesMax: number;
  binaryKeptBytesMax: number;
  otherKeptBytesMax: number;
}

/** Each with its reason; a module's settings may replace them. */
export const SKIM_LIMITS: SkimLimits = {
  skeletonBytesMax: 64 * 2 ** 20, // the largest honest headers (10^4 frames of functional groups) are about 20 MiB
  elementsMax: 2 * 2 ** 20, // 10^5 frames with 20 functional group elements each
  topLevelElementsMax: 2 ** 16, // honest ones have some hundreds; each is an object once the header is read
  sequenceDepthMax: 64, // SR trees reach about 20
  fragmentsMax: 2 ** 20, // 10^5 frames in ten pieces each
  offsetTableBytesMax: 4 * 2 ** 20, // 2^20 frames
  inflatedBytesMax: 2 * 2 ** 30, // the largest native pixel data is 4 GiB, deflated ones are segmentations; memory does not depend on it
  binaryKeptBytesMax: 1024, // longer OB OW OD OF OL OV UN values are bulk
  otherKeptBytesMax: 64 * 2 ** 10, // longer texts and numbers are bulk, too
};

export interface SkimOptions {
  transferSyntaxUid: string;
  limits?: Partial<SkimLimits>;
  /** A data set that ends within its top-level pixel data: refused (`truncated`) unless this is set. */
  acceptTruncatedPixelData?: boolean;
}

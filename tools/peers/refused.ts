// The refused files of the open data, by name and by reason: the archive says of each what is wrong with it.
export interface Refusal {
  status: number;
  /** The Error Comment (0000,0902). */
  comment: string;
  /** Only where a file meta travels too: STOW-RS and import. By C-STORE the same data set is kept. */
  onlyWithMeta: boolean;
  files: string[];
}

export const REFUSALS: Refusal[] = [
  {
    status: 0xa900,
    comment: 'SOP Instance UID differs from the file meta',
    onlyWithMeta: true,
    files: [
      'dcmjs-org__dcmjs/test/no-meta-length-test.dcm',
      'dcmjs-org__dcmjs/test/sample-dicom.dcm',
      'ImagingDataCommons__highdicom/data/test_files/sm_image_dots.dcm',
      'ImagingDataCommons__highdicom/data/test_files/sm_image_grayscale.dcm',
      'ImagingDataCommons__highdicom/data/test_files/sm_image_grayscale_reversed.dcm',
      'ImagingDataCommons__highdicom/data/test_files/sm_image_numbers.dcm',
      'cornerstonejs__cornerstone3D/packages/dicomImageLoader/testImages/TestPattern_JPEG-Lossless_RGB.dcm',
      'pydicom__pydicom-data/data_store/data/bad_sequence.dcm',
      'nipy__nibabel/nibabel/tests/data/0.dcm',
      'nipy__nibabel/nibabel/tests/data/1.dcm',
      'nipy__nibabel/nibabel/nicom/tests/data/csa_slice_norm.dcm',
      'pydicom__pydicom/src/pydicom/data/charset_files/chrJapMulti.dcm',
      'pydicom__pydicom/src/pydicom/data/charset_files/chrJapMultiExplicitIR6.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/badVR.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/rtdose.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/rtdose_1frame.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/rtdose_expb.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/rtdose_expb_1frame.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/rtplan.dcm',
    ],
  },
  {
    status: 0xa900,
    comment: 'Study, Series UIDs missing or empty',
    onlyWithMeta: false,
    files: [
      'pydicom__pydicom-data/data_store/data/HTJ2KLossless_08_RGB.dcm',
      'pydicom__pydicom-data/data_store/data/HTJ2K_08_RGB.dcm',
      'pydicom__pydicom-data/data_store/data/JLSL_08_07_0_1F.dcm',
      'pydicom__pydicom-data/data_store/data/JLSL_16_15_1_1F.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/JPEGLSNearLossless_08.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/JPEGLSNearLossless_16.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/SC_rgb_jls_lossy_line.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/SC_rgb_jls_lossy_sample.dcm',
    ],
  },
  {
    status: 0xa900,
    comment: 'SOP, Study, Series UIDs missing or empty',
    onlyWithMeta: false,
    files: [
      'pydicom__pydicom-data/data_store/data/JLSL_RGB_ILV0.dcm',
      'pydicom__pydicom-data/data_store/data/JLSL_RGB_ILV1.dcm',
      'pydicom__pydicom-data/data_store/data/JLSL_RGB_ILV2.dcm',
      'pydicom__pydicom-data/data_store/data/JLSN_RGB_ILV0.dcm',
      'nipy__nibabel/nibabel/nicom/tests/data/decimal_rescale.dcm',
      'pydicom__pydicom/src/pydicom/data/charset_files/chrSQEncoding.dcm',
      'pydicom__pydicom/src/pydicom/data/charset_files/chrSQEncoding1.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/UN_sequence.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/no_meta_group_length.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/priv_SQ.dcm',
    ],
  },
  {
    status: 0x0122,
    comment: 'Non-Patient Objects (PS3.4 Annex GG) are not stored',
    onlyWithMeta: false,
    files: [
      'pydicom__pydicom/src/pydicom/data/palettes/fall.dcm',
      'pydicom__pydicom/src/pydicom/data/palettes/hotiron.dcm',
      'pydicom__pydicom/src/pydicom/data/palettes/hotmetalblue.dcm',
      'pydicom__pydicom/src/pydicom/data/palettes/pet.dcm',
      'pydicom__pydicom/src/pydicom/data/palettes/pet20step.dcm',
      'pydicom__pydicom/src/pydicom/data/palettes/spring.dcm',
      'pydicom__pydicom/src/pydicom/data/palettes/summer.dcm',
      'pydicom__pydicom/src/pydicom/data/palettes/winter.dcm',
    ],
  },
  {
    status: 0xc000,
    comment: 'the data set ends within an element, at 9296',
    onlyWithMeta: false,
    files: ['pydicom__pydicom/src/pydicom/data/test_files/MR_truncated.dcm'],
  },
  {
    status: 0xa900,
    comment: 'SOP Class, SOP, Study, Series UIDs missing or empty',
    onlyWithMeta: false,
    files: [
      'pydicom__pydicom/src/pydicom/data/test_files/empty_charset_LEI.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/meta_missing_tsyntax.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/nested_priv_SQ.dcm',
    ],
  },
  {
    status: 0xc000,
    comment: 'neither a Part 10 file nor a data set',
    onlyWithMeta: false,
    files: ['pydicom__pydicom/src/pydicom/data/test_files/no_meta.dcm'],
  },
  {
    status: 0xc000,
    comment: 'the data set ends within an element, at 1829',
    onlyWithMeta: false,
    files: ['pydicom__pydicom/src/pydicom/data/test_files/rtplan_truncated.dcm'],
  },
  {
    status: 0x0122,
    comment: 'A DICOMDIR is not stored; send the instances it lists',
    onlyWithMeta: false,
    files: [
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/DICOMDIR',
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/DICOMDIR-bigEnd',
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/DICOMDIR-empty.dcm',
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/DICOMDIR-implicit',
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/DICOMDIR-nooffset',
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/DICOMDIR-nopatient',
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/DICOMDIR-reordered',
      'pydicom__pydicom/src/pydicom/data/test_files/dicomdirtests/TINY_ALPHA/DICOMDIR',
    ],
  },
];

import { hexOf, Tag, vrOf } from '#dicom/tags.ts';
import { LEVEL_TAGS } from '../../fold/levels.ts';
import { type OrderKey, PATIENT_KEY } from '../../search/order.ts';

/** Keys of order.ts as expressions over the rows of `studies` and `patients`. */
export const studySql = ({ tag }: OrderKey): string => {
  switch (tag) {
    case Tag.StudyInstanceUID:
      return 'study_instance_uid';
    case Tag.StudyDate:
      return 'study_date';
    case Tag.StudyTime:
      return 'study_time';
    case Tag.NumberOfStudyRelatedInstances:
      return 'instances';
    case Tag.NumberOfStudyRelatedSeries:
      return 'series';
    case Tag.ModalitiesInStudy:
      return "ifnull(json_extract(doc, '$.modalities'), '')";
    default:
      return valueSql(LEVEL_TAGS.STUDY.includes(tag) ? '$.attributes' : '$.patient.attributes', tag);
  }
};

export const patientSql = ({ tag }: OrderKey, keys: readonly OrderKey[]): string =>
  tag === PATIENT_KEY
    ? 'key'
    : tag === Tag.PatientName && keys.length === 2 && !keys[0]!.descending
      ? 'name' // as the index has it
      : valueSql('$.attributes', tag);

/** What has no number comes last; the largest number, because a cursor is JSON, which knows no infinity. */
const NO_NUMBER = '1.7976931348623157e308';

function valueSql(at: string, tag: number): string {
  const vr = vrOf(tag);
  const value = `json_extract(doc, '${at}."${hexOf(tag)}".Value[0]${vr === 'PN' ? '.Alphabetic' : ''}')`;
  if (vr === 'IS' || vr === 'DS') return `ifnull(CAST(${value} AS REAL), ${NO_NUMBER})`;
  return vr === 'PN' ? `upper(ifnull(${value}, ''))` : `ifnull(CAST(${value} AS TEXT), '')`;
}

export const orderBySql = (expressions: readonly string[], keys: readonly OrderKey[]): string =>
  keys.map((one, n) => expressions[n]! + (one.descending ? ' DESC' : '')).join(', ');

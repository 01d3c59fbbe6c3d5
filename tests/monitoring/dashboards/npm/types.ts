// The types of a dashboard's JSON: Grafana's own, but where they say enum, the JSON has its text or number.
import type { AnnotationQuery, Dashboard, FieldConfig, Panel, RowPanel, VariableModel } from "@grafana/schema";
import type * as heatmap from "./node_modules/@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen";
import type * as stat from "./node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen";
import type * as states from "./node_modules/@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen";
import type * as table from "./node_modules/@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen";
import type * as timeseries from "./node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen";

type Json<T> = T extends string
  ? `${T}`
  : T extends (infer One)[]
    ? Json<One>[]
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;
type Source = { type: "prometheus"; uid: string };
// The data source's own query, which the schema leaves open.
type Query = {
  datasource: Source;
  expr: string;
  refId: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  exemplar?: boolean;
  format?: "time_series" | "table" | "heatmap";
};
type Marks = { titleFormat?: string; textFormat?: string; tagKeys?: string; useValueForTime?: boolean };
type Tags = { type: "tags"; tags: string[]; limit: number; matchAny: boolean; refId: string };
type Of<Type extends string, Options, Custom> = Json<Omit<Panel, "type" | "options" | "fieldConfig" | "targets">> & {
  type: Type;
  options: Json<Partial<Options>>;
  targets: Query[];
  fieldConfig: {
    defaults: Json<Omit<FieldConfig, "custom">> & { custom?: Json<Partial<Custom>> };
    overrides: { matcher: { id: "byName"; options: string }; properties: { id: string; value: unknown }[] }[];
  };
};
export type DashboardJson = Json<Omit<Dashboard, "panels" | "templating" | "annotations">> & {
  templating: { list: (Json<VariableModel> & { definition?: string })[] };
  annotations: { list: (Json<Omit<AnnotationQuery, "target">> & Marks & { target: Query | Tags })[] };
  panels: (
    | Of<"timeseries", timeseries.Options, timeseries.FieldConfig>
    | Of<"heatmap", heatmap.Options, heatmap.FieldConfig>
    | Of<"stat", stat.Options, Record<string, never>>
    | Of<"table", table.Options, table.FieldConfig>
    | Of<"state-timeline", states.Options, states.FieldConfig>
    | Json<RowPanel>
  )[];
};

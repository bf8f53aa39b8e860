{#-
    Values from text. Each macro takes a text without white space around it and gives the value, or null for a text it
    cannot read; it never rounds, cuts or guesses. A pattern comes before every cast, because engines cast leniently:
    '30.5' to 31, '1e3' to 1000, 'epoch' to a timestamp.

    With enable_normalization off only the plainest form of a value is read: 30, 1234.50, true, 2024-01-05.
-#}

{#- A text cast to a type, or null when it is none of that type (30 February, say). -#}
{% macro cast_or_null(text, type) -%}
    {{ return(adapter.dispatch("cast_or_null", "penstock")(text, type)) }}
{%- endmacro %}

{% macro duckdb__cast_or_null(text, type) -%} try_cast({{ text }} as {{ type }}) {%- endmacro %}
{% macro postgres__cast_or_null(text, type) -%}
    case when pg_input_is_valid({{ text }}, '{{ type }}') then cast({{ text }} as {{ type }}) end
{%- endmacro %}
{% macro spark__cast_or_null(text, type) -%} try_cast({{ text }} as {{ type }}) {%- endmacro %}


{#- A whole number: 30, +30, 030, 30.0. -#}
{% macro whole_number(text) -%}
    {%- set pattern = "^[+-]?[0-9]{1,9}([.]0+)?$" if var("enable_normalization") else "^-?[0-9]{1,9}$" -%}
    case
        when {{ matches(text, pattern) }}
            then {{ cast_or_null(replaced(text, "[.]0+$", ""), "integer") }}
    end
{%- endmacro %}


{#- Whether a text is a number with a fraction, such as 30.5. -#}
{% macro is_number_with_fraction(text) -%} {{ matches(text, "^[+-]?[0-9]+[.][0-9]*[1-9][0-9]*$") }} {%- endmacro %}


{#-
    An amount in USD: 1234.5, $1,234.50. A comma is a thousands separator only where one belongs, so 1,2,3 and
    1.234,50 are unreadable, as is 1e5; a third decimal that is not 0 is too, see is_too_precise_usd.
-#}
{% macro amount_usd(text) -%}
    {#- At most ten digits before the point, which is what decimal(12, 2) holds. -#}
    {%- set plain = "^-?[0-9]{1,10}([.][0-9]{1,2})?$" -%}
    {%- set dollars = "([0-9]{1,10}|[0-9]{1,3}(,[0-9]{3}){1,2}|[0-9](,[0-9]{3}){3})" -%}
    case
        when {{ matches(text, plain) }} then {{ cast_or_null(text, "decimal(12, 2)") }}
    {%- if var("enable_normalization") %}
        when {{ matches(text, "^[+-]?[$]? ?" ~ dollars ~ "([.][0-9]{1,2}0*)?$") }}
            then {{ cast_or_null(replaced(text, "[$, ]", ""), "decimal(12, 2)") }}
    {%- endif %}
    end
{%- endmacro %}


{#- Whether a text is an amount in USD with more decimals than a cent has; it would have to be rounded. -#}
{% macro is_too_precise_usd(text) -%}
    {{ matches(text, "^[+-]?[$]? ?([0-9]+|[0-9]{1,3}(,[0-9]{3})+)[.][0-9]{2}[0-9]*[1-9][0-9]*$") }}
{%- endmacro %}


{#- true, 1, yes, active or false, 0, no, inactive, in any case. -#}
{% macro yes_or_no(text) -%}
    case
    {%- if var("enable_normalization") %}
        when lower({{ text }}) in ('true', '1', 'yes', 'active') then true
        when lower({{ text }}) in ('false', '0', 'no', 'inactive') then false
    {%- else %}
        when {{ text }} = 'true' then true
        when {{ text }} = 'false' then false
    {%- endif %}
    end
{%- endmacro %}


{#-
    A date, from yyyy-MM-dd (also with / or . and unpadded), yyyyMMdd, an ISO timestamp (its date as written),
    5 Jan 2024, 05-Jan-2024, Jan 5, 2024, January 5, 2024, and from day and month in figures where only one order is
    possible: 31/12/2024, 12/31/2024, 05/05/2024. A day that does not exist (30 February) is unreadable.
-#}
{% macro calendar_date(text) -%}
    {%- set year = "([12][0-9]{3})" -%}
    {%- set figures = "([0-9]{1,2})" -%}
    {%- set month_name = "([A-Za-z]+)[.]?" -%}
    {%- set iso = "^[12][0-9]{3}-[0-9]{2}-[0-9]{2}" -%}
    {%- set clock = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?" -%}
    {%- set offset = "( ?([Zz]|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?))?" -%}
    {%- set year_first = "^" ~ year ~ "[-/.]" ~ figures ~ "[-/.]" ~ figures ~ "$" -%}
    {%- set day_name_year = "^" ~ figures ~ "[- ]" ~ month_name ~ "[- ]" ~ year ~ "$" -%}
    {%- set name_day_year = "^" ~ month_name ~ " " ~ figures ~ ",? " ~ year ~ "$" -%}
    {%- set year_last = "^" ~ figures ~ "[-/.]" ~ figures ~ "[-/.]" ~ year ~ "$" -%}
    case
        when {{ matches(text, iso ~ "$") }} then {{ cast_or_null(text, "date") }}
    {%- if var("enable_normalization") %}
        when {{ matches(text, iso ~ "[Tt ]" ~ clock ~ offset ~ "$") }}
            then {{ cast_or_null("left(" ~ text ~ ", 10)", "date") }}
        when {{ matches(text, "^[12][0-9]{7}$") }}
            then {{ date_of("left(" ~ text ~ ", 4)", "substr(" ~ text ~ ", 5, 2)", "right(" ~ text ~ ", 2)") }}
        when {{ matches(text, year_first) }}
            then {{ date_of(
                captured(text, year_first, 1), captured(text, year_first, 2), captured(text, year_first, 3)
            ) }}
        when {{ matches(text, day_name_year) }}
            then {{ date_of(
                captured(text, day_name_year, 3),
                month_in_figures(captured(text, day_name_year, 2)),
                captured(text, day_name_year, 1)
            ) }}
        when {{ matches(text, name_day_year) }}
            then {{ date_of(
                captured(text, name_day_year, 3),
                month_in_figures(captured(text, name_day_year, 1)),
                captured(text, name_day_year, 2)
            ) }}
        when {{ matches(text, year_last) }} and not {{ is_ambiguous_date(text) }}
            then coalesce(
                {{ date_of(captured(text, year_last, 3), captured(text, year_last, 2), captured(text, year_last, 1)) }},
                {{ date_of(captured(text, year_last, 3), captured(text, year_last, 1), captured(text, year_last, 2)) }}
            )
    {%- endif %}
    end
{%- endmacro %}


{#- Whether a text is a date whose day and month could change places: 03/04/2024. -#}
{% macro is_ambiguous_date(text) -%}
    {%- set pattern = "^(0?[1-9]|1[0-2])[-/.](0?[1-9]|1[0-2])[-/.][12][0-9]{3}$" -%}
    (
        {{ matches(text, pattern) }}
        and {{ captured(text, "^0?([0-9]+)", 1) }} <> {{ captured(text, "^[0-9]+[-/.]0?([0-9]+)", 1) }}
    )
{%- endmacro %}


{% macro date_of(year, month, day) -%}
    {{ cast_or_null(year ~ " || '-' || " ~ month ~ " || '-' || " ~ day, "date") }}
{%- endmacro %}


{% macro month_in_figures(name) -%}
    case lower({{ name }})
    {%- for month in [
        "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
        "december",
    ] %}
        when '{{ month }}' then '{{ loop.index }}'
        {%- if month | length > 3 %}
        when '{{ month[:3] }}' then '{{ loop.index }}'
        {%- endif %}
    {%- endfor %}
        when 'sept' then '9'
    end
{%- endmacro %}


{#- A moment in UTC, from an ISO date or timestamp; without an offset it is UTC already. -#}
{% macro utc_timestamp(text) -%}
    {%- set day = "^[12][0-9]{3}-[0-9]{2}-[0-9]{2}" -%}
    {%- set minute = day ~ "[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]" -%}
    {%- set second = ":[0-5][0-9]([.][0-9]+)?" -%}
    {%- set offset = " ?([Zz]|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)" -%}
    {#- The parts, spelt the one way that every engine casts. -#}
    {%- set until_minute = "left(" ~ text ~ ", 10) || ' ' || substr(" ~ text ~ ", 12, 5)" -%}
    {%- set rest = "upper(replace(substr(" ~ text ~ ", 17), ' ', ''))" -%}
    case
        when {{ matches(text, minute ~ second ~ offset ~ "$") }}
            then {{ cast_or_null(until_minute ~ " || " ~ rest, instant_type()) }}
        when {{ matches(text, minute ~ second ~ "$") }}
            then {{ cast_or_null(until_minute ~ " || " ~ rest ~ " || '+00'", instant_type()) }}
        when {{ matches(text, minute ~ offset ~ "$") }}
            then {{ cast_or_null(until_minute ~ " || ':00' || " ~ rest, instant_type()) }}
        when {{ matches(text, minute ~ "$") }}
            then {{ cast_or_null(until_minute ~ " || ':00+00'", instant_type()) }}
        when {{ matches(text, day ~ "$") }}
            then {{ cast_or_null(text ~ " || ' 00:00:00+00'", instant_type()) }}
    end
{%- endmacro %}


{#- The type of a text. -#}
{% macro text_type() -%} {{ return(dbt.type_string()) }} {%- endmacro %}


{#- The type of a moment that knows its offset. -#}
{% macro instant_type() -%}
    {{ return(adapter.dispatch("instant_type", "penstock")()) }}
{%- endmacro %}

{% macro default__instant_type() -%} timestamp with time zone {%- endmacro %}
{% macro spark__instant_type() -%} timestamp {%- endmacro %}


{#- Completed years between two dates; who was born on 29 February has them on 1 March in a year without that day. -#}
{% macro completed_years(first, last) -%}
    cast(
        extract(year from {{ last }}) - extract(year from {{ first }})
        - case
            when
                extract(month from {{ last }}) * 100 + extract(day from {{ last }})
                < extract(month from {{ first }}) * 100 + extract(day from {{ first }})
                then 1
            else 0
        end as integer
    )
{%- endmacro %}


{#- Whole days from one date to another. -#}
{% macro days_between(first, last) -%} {{ dbt.datediff(first, last, "day") }} {%- endmacro %}


{#- The day that the run calls today: the variable as_of, or else today in UTC. -#}
{% macro as_of_date() -%}
    {%- set as_of = (var("as_of") or run_started_at.strftime("%Y-%m-%d")) | string -%}
    {%- if not modules.re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", as_of) -%}
        {{ exceptions.raise_compiler_error("the variable as_of is '" ~ as_of ~ "'; write it as yyyy-MM-dd") }}
    {%- endif -%}
    cast('{{ as_of }}' as date)
{%- endmacro %}


{#- A text without white space around it, or null when nothing is left. -#}
{% macro trimmed(text) -%} nullif(trim({{ text }}), '') {%- endmacro %}


{#- An amount in USD from a whole number of cents, -1250 say. -#}
{% macro cents_as_usd(text) -%}
    case when {{ matches(text, "^-?[0-9]{1,12}$") }} then cast(cast({{ text }} as bigint) * 0.01 as decimal(14, 2)) end
{%- endmacro %}


{#- The texts of a record by name, for people who look: id=7, name=Ann. -#}
{% macro named_texts(texts) -%}
    concat_ws(', '
    {%- for name, text in texts.items() -%}
        , '{{ name }}=' || {{ text }}
    {%- endfor -%}
    )
{%- endmacro %}


{#- The mean of an exact sum in USD, rounded half up to the cent in whole numbers: engines divide decimals differently. -#}
{% macro average_usd(total, count) -%}
    {%- set doubled = "(2 * cast(" ~ total ~ " * 100 as bigint) + " ~ count ~ ")" -%}
    {%- set divisor = "nullif(2 * " ~ count ~ ", 0)" -%}
    cast(
        cast(({{ doubled }} - {{ doubled }} % {{ divisor }}) / {{ divisor }} as bigint) * 0.01 as decimal(18, 2)
    )
{%- endmacro %}


{#-
    Key and name of the row that stands for what facts name and nobody described. penstock.yml says it of a mart whose
    rows the books count, and no record may bear it.
-#}
{% macro unknown_member() -%} (unknown) {%- endmacro %}

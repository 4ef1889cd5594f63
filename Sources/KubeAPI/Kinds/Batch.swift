// Jobs and CronJobs.

struct JobStrategy: ResourceStrategy {
  let hasGeneration = true
  let hasStatus = true

  private static let controllerLabel = "batch.kubernetes.io/controller-uid"

  func applyDefaults(_ job: inout Value) {
    if job["spec"]["completions"].isNull, job["spec"]["parallelism"].isNull {
      job["spec"]["completions"] = 1
    }
    job["spec"].setDefault("parallelism", to: 1)
    let perIndex = !job["spec"]["backoffLimitPerIndex"].isNull
    job["spec"].setDefault("backoffLimit", to: perIndex ? Value(Int64(Int32.max)) : 6)
    let hasPolicy = !job["spec"]["podFailurePolicy"].isNull
    job["spec"].setDefault("completionMode", to: "NonIndexed")
    job["spec"].setDefault("suspend", to: false)
    job["spec"].setDefault(
      "podReplacementPolicy", to: hasPolicy ? "Failed" : "TerminatingOrFailed")
    if job["metadata"]["labels"].isEmpty {
      job["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"]
    }
  }

  /// The pods are found by the job's own identity, unless the user wants to choose.
  func prepareForCreate(_ job: inout Value) {
    standardPrepareForCreate(&job)
    guard job["spec"]["manualSelector"] != true else { return }
    let uid = job["metadata"]["uid"]
    let name = job["metadata"]["name"]
    for (key, value) in [
      ("controller-uid", uid), (JobStrategy.controllerLabel, uid), ("job-name", name),
      ("batch.kubernetes.io/job-name", name),
    ] { job["spec"]["template"]["metadata"]["labels"][key] = value }
    if job["spec"]["selector"].isNull { job["spec"]["selector"] = [:] }
    job["spec"]["selector"]["matchLabels"][JobStrategy.controllerLabel] = uid
  }

  func validate(_ job: Value) -> [FieldError] {
    var validation = PodValidation()
    JobStrategy.validate(job["spec"], FieldPath("spec"), &validation)
    validation.errors += SelectorValidation.validate(
      job["spec"], FieldPath("spec"), kind: "job")
    return validation.errors
  }

  static func validate(_ spec: Value, _ path: FieldPath, _ validation: inout PodValidation) {
    for key in [
      "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
      "backoffLimitPerIndex", "maxFailedIndexes", "ttlSecondsAfterFinished",
    ] { validation.notNegative(spec[key], path.child(key)) }
    if !spec["completionMode"].isNull {
      validation.supported(
        spec["completionMode"], ["Indexed", "NonIndexed"], path.child("completionMode"))
    }
    if spec["completionMode"] == "Indexed", spec["completions"].isNull {
      validation.errors.append(
        .required(path.child("completions"), "when completion mode is Indexed"))
    }
    validation.validate(template: spec["template"], path.child("template"))
    let policy = spec["template"]["spec"]["restartPolicy"]
    if policy == "Always" {
      validation.errors.append(
        .required(
          path.child("template", "spec", "restartPolicy"),
          "valid values: \"OnFailure\", \"Never\""))
    }
  }

  func validateUpdate(_ job: Value, from old: Value) -> [FieldError] {
    var errors = validate(job)
    let path = FieldPath("spec")
    errors += SelectorValidation.validateImmutable(
      job["spec"]["selector"], old["spec"]["selector"], path.child("selector"))
    for key in ["completions", "completionMode", "template", "backoffLimitPerIndex"]
    where job["spec"][key] != old["spec"][key] {
      // Where pods go can change while none of them run.
      if key == "template", old["spec"]["suspend"] == true, old["status"]["startTime"].isNull {
        continue
      }
      errors.append(.invalid(path.child(key), job["spec"][key], "field is immutable"))
    }
    return errors
  }
}

struct CronJobStrategy: ResourceStrategy {
  let hasGeneration = true
  let hasStatus = true

  /// Jobs add eleven characters to the name.
  private static let nameLength = 52

  func validate(_ object: Value) -> [FieldError] {
    var validation = PodValidation()
    let spec = object["spec"]
    let path = FieldPath("spec")
    if (object["metadata"]["name"].string ?? "").utf8.count > CronJobStrategy.nameLength {
      validation.errors.append(
        .invalid(
          FieldPath("metadata").child("name"), object["metadata"]["name"],
          "must be no more than 52 characters"))
    }
    let schedule = spec["schedule"].string ?? ""
    if schedule.isEmpty {
      validation.errors.append(.required(path.child("schedule")))
    } else if schedule.contains("TZ") {
      validation.errors.append(
        .invalid(
          path.child("schedule"), spec["schedule"],
          "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
    } else {
      do throws(CronSchedule.Failure) { _ = try CronSchedule(schedule) } catch {
        validation.errors.append(
          .invalid(path.child("schedule"), spec["schedule"], error.description))
      }
    }
    validation.supported(
      spec["concurrencyPolicy"], ["Allow", "Forbid", "Replace"], path.child("concurrencyPolicy"),
      isRequired: true)
    for key in [
      "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit",
    ] { validation.notNegative(spec[key], path.child(key)) }
    JobStrategy.validate(
      spec["jobTemplate"]["spec"], path.child("jobTemplate", "spec"), &validation)
    return validation.errors
  }
}
